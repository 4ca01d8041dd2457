/** The sending half of a stream in both directions, bounded: a peer that does not read must not fill this node's memory. */
import { create, type DescMethod, type MessageInitShape, type MessageShape, toBinary } from "@bufbuild/protobuf";
import type { ClientDuplexStream } from "@grpc/grpc-js";
import type { DuplexCall } from "../grpc.ts";
import type { RpcLimits } from "./server.ts";

export class BoundedDuplex<Method extends DescMethod> implements DuplexCall<Method> {
  readonly received: AsyncIterable<MessageShape<Method["output"]>>;
  readonly #call: ClientDuplexStream<unknown, unknown>;
  readonly #input: DescMethod["input"];
  readonly #limits: Pick<RpcLimits, "nodeSendQueueMax" | "nodeSendQueueBytesMax">;
  #waiting = 0;
  #waitingBytes = 0;
  #over = false;

  constructor(
    call: ClientDuplexStream<unknown, unknown>,
    method: Method,
    limits: Pick<RpcLimits, "nodeSendQueueMax" | "nodeSendQueueBytesMax">,
    received: AsyncIterable<MessageShape<Method["output"]>>,
  ) {
    this.#call = call;
    this.#input = method.input;
    this.#limits = limits;
    this.received = received;
    const over = (): void => {
      this.#over = true;
    };
    call.on("error", over).on("close", over).on("status", over);
  }

  /** False: not taken, because too much waits already or the stream has ended. */
  send(message: MessageInitShape<Method["input"]>): boolean {
    if (this.#over) return false;
    const whole = create(this.#input, message);
    const bytes = toBinary(this.#input, whole).length;
    // One message always goes, whatever its size: messages have a limit of their own.
    const full =
      this.#waiting >= this.#limits.nodeSendQueueMax || this.#waitingBytes + bytes > this.#limits.nodeSendQueueBytesMax;
    if (full && this.#waiting > 0) return false;
    this.#waiting += 1;
    this.#waitingBytes += bytes;
    this.#call.write(whole, () => {
      this.#waiting -= 1;
      this.#waitingBytes -= bytes;
    });
    return true;
  }

  end(): void {
    if (this.#over) return;
    this.#over = true;
    this.#call.end();
  }
}
