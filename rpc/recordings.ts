/** Reads recordings back. Implemented by the recorder, asked by the control plane's API. */
import type { SessionId } from "@sluice/core/ids.ts";

export interface RecordingReader {
  /** Items in order; throws GatewayError `not_found` when there is no such recording. */
  replay(sessionId: SessionId): AsyncIterable<ReplayItem>;
  verify(sessionId: SessionId): Promise<VerifyReport>;
}

export type ReplayItem =
  | { readonly kind: "opened"; readonly atMs: number; readonly opened: Readonly<Record<string, unknown>> }
  | { readonly kind: "statement"; readonly atMs: number; readonly statement: Readonly<Record<string, unknown>> }
  | {
      readonly kind: "columns";
      readonly atMs: number;
      readonly columns: readonly { readonly name: string; readonly typeOid: number }[];
    }
  /** Released values as text; binary values as `\x…`. */
  | { readonly kind: "row"; readonly atMs: number; readonly values: readonly (string | null)[] }
  /** COPY data as it was released. */
  | { readonly kind: "copy"; readonly atMs: number; readonly text: string }
  | { readonly kind: "complete"; readonly atMs: number; readonly tag: string }
  | { readonly kind: "error" | "notice"; readonly atMs: number; readonly fields: Readonly<Record<string, string>> }
  | { readonly kind: "finished"; readonly atMs: number; readonly finished: Readonly<Record<string, unknown>> }
  | { readonly kind: "alert"; readonly atMs: number; readonly alert: Readonly<Record<string, unknown>> }
  | { readonly kind: "closed"; readonly atMs: number; readonly closed: Readonly<Record<string, unknown>> };

export interface VerifyReport {
  readonly sessionId: SessionId;
  readonly ok: boolean;
  /**
   * `complete`: closed and signed; `open`: still being written, whole so far; `lost`: given up by the recorder, which signed that: its
   * gateway died, and how it would have ended nobody knows; `broken`: see faults.
   */
  readonly state: "complete" | "open" | "lost" | "broken";
  readonly chunks: number;
  readonly records: number;
  /** Hex SHA-256 of the last chunk: the head of the chain. */
  readonly head: string;
  readonly faults: readonly string[];
}
