/**
 * Changes the key under which the store's keys are encrypted: everything is opened with the old one and closed with the new one, in one
 * transaction. Control planes that run keep working with what they opened; start them with the new key before the next rotation.
 */
import type { Kysely } from "kysely";
import { sql } from "kysely";
import { storeLocks } from "../store/locks.ts";
import type { Tables } from "../store/tables.ts";
import type { KeyEncryption } from "./envelope.ts";
import { authorityKeyPurpose, signerKeyPurpose } from "./purposes.ts";

/** Returns how many keys were changed. Rejects, with nothing changed, when one of them does not open with `from`. */
export async function rewrapKeys(db: Kysely<Tables>, from: KeyEncryption, to: KeyEncryption): Promise<number> {
  return await db.transaction().execute(async (transaction) => {
    await sql`select pg_advisory_xact_lock(${sql.lit(storeLocks.authorities)})`.execute(transaction);
    const again = async (text: string, purpose: string): Promise<string> =>
      await to.wrap(await from.unwrap(text, purpose), purpose);
    let changed = 0;
    for (const { fingerprint, wrapped_key: wrapped } of await transaction
      .selectFrom("authorities")
      .selectAll()
      .forUpdate()
      .execute()) {
      if (wrapped === null) continue; // retired: its key is gone
      const wrappedKey = await again(wrapped, authorityKeyPurpose(fingerprint));
      await transaction
        .updateTable("authorities")
        .set({ wrapped_key: wrappedKey })
        .where("fingerprint", "=", fingerprint)
        .execute();
      changed += 1;
    }
    for (const { id, wrapped_key: wrapped } of await transaction.selectFrom("signers").selectAll().forUpdate().execute()) {
      const wrappedKey = await again(wrapped, signerKeyPurpose(id));
      await transaction.updateTable("signers").set({ wrapped_key: wrappedKey }).where("id", "=", id).execute();
      changed += 1;
    }
    return changed;
  });
}
