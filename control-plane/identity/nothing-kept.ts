/** Storage of the development issuer: none. Its tokens are signed and complete in themselves, so there is nothing to find later. */
import type { Adapter } from "oidc-provider";

export class NothingKept implements Adapter {
  async upsert(): Promise<void> {}
  async find(): Promise<undefined> {}
  async findByUserCode(): Promise<undefined> {}
  async findByUid(): Promise<undefined> {}
  async consume(): Promise<void> {}
  async destroy(): Promise<void> {}
  async revokeByGrantId(): Promise<void> {}
}
