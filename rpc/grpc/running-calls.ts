/**
 * The calls that a server has under way, so that they can be ended: because the caller's certificate stopped being good, or because
 * the server closes. Knows who may call what; knows nothing of TLS or messages.
 */
import { X509Certificate } from "node:crypto";
import type { Clock } from "@sluice/core/clock.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import { verifyNode } from "../identity/verify.ts";
import type { CallContext } from "../grpc.ts";
import type { NodeIdentity } from "../node-identity.ts";
import type { NodeCertificate, NodeRole } from "../nodes.ts";

/** What a call says of who is at its other end. */
export interface CallerFacts {
  /** `address:port`. */
  readonly address: string;
  /** DER; null when TLS saw none that it trusts. */
  readonly certificate: Uint8Array | null;
}

export interface RunningCall {
  readonly context: CallContext;
  /** Call exactly once, when nothing more will be sent. */
  readonly finish: () => void;
}

interface Entry {
  readonly caller: CallerFacts;
  readonly peer: NodeCertificate | null;
  readonly stream: boolean;
  readonly controller: AbortController;
  readonly end: (error: GatewayError) => void;
}

export class RunningCalls {
  readonly #identity: NodeIdentity;
  readonly #clock: Clock;
  readonly #entries = new Set<Entry>();

  constructor(identity: NodeIdentity, clock: Clock) {
    this.#identity = identity;
    this.#clock = clock;
  }

  /** Throws `unauthorized` when the caller may not. `end` is called when the call must stop; afterwards `signal` is aborted. */
  begin(
    caller: CallerFacts,
    roles: readonly NodeRole[] | null,
    stream: boolean,
    end: (error: GatewayError) => void,
  ): RunningCall & { readonly gone: () => void } {
    const peer = this.#admit(caller, roles);
    const controller = new AbortController();
    const entry: Entry = { caller, peer, stream, controller, end };
    this.#entries.add(entry);
    const finish = (): void => void this.#entries.delete(entry);
    return {
      context: { peer, peerAddress: caller.address, signal: controller.signal },
      finish,
      gone: () => {
        finish();
        controller.abort();
      },
    };
  }

  /** Ends what would not be admitted now. */
  recheck(): void {
    for (const entry of this.#entries) {
      if (entry.peer === null || entry.caller.certificate === null) continue;
      const verdict = verifyNode(entry.caller.certificate, this.#identity, this.#clock.nowMs());
      if (verdict.kind === "refused") this.#end(entry, refusedCertificate(verdict.reason));
    }
  }

  endStreams(error: GatewayError): void {
    for (const entry of this.#entries) if (entry.stream) this.#end(entry, error);
  }

  endAll(error: GatewayError): void {
    for (const entry of this.#entries) this.#end(entry, error);
  }

  #end(entry: Entry, error: GatewayError): void {
    entry.end(error);
    entry.controller.abort(error);
  }

  #admit(caller: CallerFacts, roles: readonly NodeRole[] | null): NodeCertificate | null {
    const peer = this.#peerOf(caller, roles === null);
    if (roles === null) return peer;
    if (peer === null) {
      throw new GatewayError("unauthorized", "This call needs the certificate of a node.", {
        hint: "Enrol this process with a join token: `sluice nodes join-token create`.",
      });
    }
    if (!roles.includes(peer.role)) {
      throw new GatewayError(
        "unauthorized",
        `The certificate is of the role ${peer.role}; this call is for ${roles.join(", ")}.`,
        {
          hint: "Check which process was given which join token.",
        },
      );
    }
    return peer;
  }

  /** With `lenient`, a certificate that is not good is none. */
  #peerOf(caller: CallerFacts, lenient: boolean): NodeCertificate | null {
    if (caller.certificate === null) return null;
    const verdict = verifyNode(new X509Certificate(Buffer.from(caller.certificate)), this.#identity, this.#clock.nowMs());
    if (verdict.kind === "node") return verdict.node;
    if (lenient) return null;
    throw refusedCertificate(verdict.reason);
  }
}

const sentences = {
  not_a_node: "The certificate is not one of a node.",
  untrusted: "The certificate is of an authority that is not trusted.",
  not_yet_valid: "The certificate is not valid yet: compare the clocks.",
  expired: "The certificate has expired.",
  revoked: "The certificate was revoked.",
} as const;

function refusedCertificate(reason: keyof typeof sentences): GatewayError {
  return new GatewayError("unauthorized", sentences[reason], {
    hint: reason === "expired" ? "Connect again with the renewed certificate." : "Enrol this process again with a join token.",
    detail: { reason },
  });
}
