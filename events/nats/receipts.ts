/**
 * Receipts: the recorder's signed word that everything of a spool before a place is on its disk. A gateway forgets records on nothing
 * else, so nothing else may make one: not the bus's acknowledgement, which comes before its own disk has anything.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { Clock } from "@sluice/core/clock.ts";
import { type Receipt, ReceiptSchema } from "@sluice/proto/sluice/recording/v1/recording_pb.ts";
import type { NodeIdentity } from "@sluice/rpc/node-identity.ts";
import { checkProof, type ProofSigner, type SignedField } from "./proof.ts";

export interface ReceiptClaim {
  readonly gateway: string;
  readonly spoolId: string;
  /** Everything before this place is kept. */
  readonly next: number;
  readonly recorder: string;
}

const CONTEXT = "sluice receipt v1";

export function encodeReceipt(claim: ReceiptClaim, signer: ProofSigner): Uint8Array {
  const proof = signer.sign(CONTEXT, fieldsOf(claim));
  return toBinary(ReceiptSchema, create(ReceiptSchema, { ...claim, next: BigInt(claim.next), ...proof }));
}

/** The claim of a receipt that a recorder of this installation signed, or in words why it counts for nothing. */
export function readReceipt(bytes: Uint8Array, identity: NodeIdentity, clock: Clock): ReceiptClaim | string {
  let receipt: Receipt;
  try {
    receipt = fromBinary(ReceiptSchema, bytes);
  } catch {
    return "it is no receipt";
  }
  const next = Number(receipt.next);
  if (!Number.isSafeInteger(next)) return "its place is impossible";
  const { gateway, spoolId, recorder } = receipt;
  const claim = { gateway, spoolId, next, recorder };
  const expected = { role: "recorder", name: recorder, atMs: clock.nowMs() } as const;
  return checkProof(identity, expected, CONTEXT, fieldsOf(claim), receipt) ?? claim;
}

function fieldsOf({ gateway, spoolId, next, recorder }: ReceiptClaim): readonly SignedField[] {
  return [gateway, spoolId, next, recorder];
}
