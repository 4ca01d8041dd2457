/**
 * A target that lies or dies: speaks just enough of the server's side to log the agent in and answer catalog reads like the real
 * one behind it, until a test tells it to misbehave. Bytes are relayed to a real cluster; each connection can be cut or stuffed.
 */
import { connect, createServer, type Server, type Socket } from "node:net";

export interface FakeTarget {
  readonly port: number;
  /** Ends every connection; `reset` without a goodbye. */
  cut(): void;
  /** Called with each chunk from the real target; what it returns is sent on, null cuts the connection. */
  answer: (chunk: Buffer) => Buffer | null;
  /** No new connections from now on, or again. */
  refuse(yes: boolean): void;
  stop(): Promise<void>;
}

export async function startFakeTarget(realPort: number): Promise<FakeTarget> {
  const open = new Set<Socket>();
  let refusing = false;
  const fake = { answer: (chunk: Buffer): Buffer | null => chunk };
  const server: Server = createServer((socket) => {
    if (refusing) {
      socket.destroy();
      return;
    }
    const real = connect({ host: "127.0.0.1", port: realPort });
    open.add(socket);
    open.add(real);
    const end = (): void => {
      socket.destroy();
      real.destroy();
      open.delete(socket);
      open.delete(real);
    };
    socket.on("data", (chunk) => real.write(chunk));
    real.on("data", (chunk) => {
      const answer = fake.answer(chunk);
      if (answer === null) end();
      else socket.write(answer);
    });
    for (const side of [socket, real]) {
      side.on("error", end);
      side.on("close", end);
    }
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host: "127.0.0.1", port: 0 }, () => resolve());
  });
  const bound = server.address();
  if (bound === null || typeof bound === "string") throw new Error("the fake target has no port");
  return Object.assign(fake, {
    port: bound.port,
    cut: () => {
      for (const socket of open) socket.destroy();
    },
    refuse: (yes: boolean) => {
      refusing = yes;
    },
    stop: async () => {
      for (const socket of open) socket.destroy();
      await new Promise<void>((resolve) => void server.close(() => resolve()));
    },
  });
}
