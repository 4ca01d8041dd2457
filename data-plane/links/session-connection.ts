/**
 * One TLS connection that an agent dialled: idle until a session takes it, then the frames that bind it, then the session's own.
 * An idle connection on which the agent says anything is closed: nobody asked.
 */
import type { TLSSocket } from "node:tls";
import { create, type MessageShape } from "@bufbuild/protobuf";
import { SessionAnswerSchema, SessionBindingSchema } from "@sluice/proto/sluice/link/v1/link_pb.ts";
import type { NodeCertificate } from "@sluice/rpc/nodes.ts";
import { encodeSessionFrame, SessionFrameDecoder } from "@sluice/rpc/session-frames.ts";
import { EXPORTER_BYTES, EXPORTER_LABEL } from "@sluice/rpc/ticket.ts";
import { AgentFailure } from "./agent-fault.ts";

export class SessionConnection {
  readonly socket: TLSSocket;
  readonly peer: NodeCertificate;
  /** Monotonic. */
  readonly arrivedMs: number;
  readonly #destroyIt = (): void => void this.socket.destroy();

  /** `gone` is called once, when the connection has closed, in whatever state. */
  constructor(socket: TLSSocket, peer: NodeCertificate, arrivedMs: number, gone: (connection: SessionConnection) => void) {
    this.socket = socket;
    this.peer = peer;
    this.arrivedMs = arrivedMs;
    socket.on("error", this.#destroyIt);
    socket.once("close", () => gone(this));
    socket.on("data", this.#destroyIt);
  }

  get isUsable(): boolean {
    return !this.socket.destroyed && this.socket.readable && this.socket.writable;
  }

  /** Keying material of this very connection (RFC 8446, section 7.5). */
  exporter(): Buffer {
    // TLS 1.3 knows no difference between an empty context and none.
    return this.socket.exportKeyingMaterial(EXPORTER_BYTES, EXPORTER_LABEL, Buffer.alloc(0));
  }

  /**
   * Binds the connection and resolves with the agent's answer; the socket is then paused, without a listener for data, and starts
   * with what came behind the answer. Rejects with AgentFailure when the connection breaks, or with what `giveUp` was given.
   */
  bind(openId: bigint, proof: Uint8Array): Binding {
    const { promise, resolve, reject } = Promise.withResolvers<MessageShape<typeof SessionAnswerSchema>>();
    const { socket } = this;
    const decoder = new SessionFrameDecoder(SessionAnswerSchema);
    const closed = (): void => reject(new AgentFailure("the agent closed the session connection", { again: true }));
    const receive = (chunk: Buffer): void => {
      try {
        const decoded = decoder.push(chunk);
        if (decoded === undefined) return;
        // At once, not when the promise is seen: a flowing socket would throw the chunks it still holds at nobody.
        socket.pause();
        socket.off("data", receive);
        socket.off("close", closed);
        if (decoded.rest.length > 0) socket.unshift(decoded.rest);
        resolve(decoded.value);
      } catch (cause) {
        reject(new AgentFailure("the agent's answer was not understood", { cause }));
        socket.destroy();
      }
    };
    socket.once("close", closed);
    socket.on("data", receive);
    socket.off("data", this.#destroyIt);
    if (this.isUsable) socket.write(encodeSessionFrame(SessionBindingSchema, create(SessionBindingSchema, { openId, proof })));
    else closed();
    return {
      answer: promise,
      giveUp: (reason) => {
        reject(reason);
        socket.destroy();
      },
    };
  }

  destroy(): void {
    this.socket.destroy();
  }
}

export interface Binding {
  readonly answer: Promise<MessageShape<typeof SessionAnswerSchema>>;
  /** Destroys the connection, too. */
  giveUp(reason: Error): void;
}
