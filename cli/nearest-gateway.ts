/**
 * Finds the gateway that is nearest to this machine: asks the installation which there are, measures how long each takes to answer,
 * chooses as agents do. Sends nothing but the question that every PostgreSQL client begins with, whether TLS is spoken.
 */
import { connect } from "node:net";
import { GatewayError } from "@sluice/core/errors.ts";
import { type MeasuredGateway, rankGateways } from "@sluice/rpc/nearest.ts";
import { type AdminClient, isRecord } from "./admin-client.ts";

export interface NearGateway {
  readonly name: string;
  readonly region: string;
  readonly host: string;
  readonly port: number;
  /** Infinity: it does not answer. Milliseconds. */
  readonly roundTripMs: number;
  readonly draining: boolean;
}

/** Of how many connections the middle one counts. */
const ROUNDS = 3;
/** A gateway that takes longer is not near. Milliseconds. */
const ANSWER_TIMEOUT_MS = 2_000;
/** SSLRequest; the answer is one byte. <https://www.postgresql.org/docs/18/protocol-message-formats.html> */
const SSL_REQUEST = Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]);

/** All gateways for the protocol, the ones to take first; those that do not answer come last. Throws `not_found` when there is none. */
export async function measureGateways(
  admin: AdminClient,
  protocol: "postgres",
  chooser: string,
): Promise<readonly NearGateway[]> {
  const answer = await admin.call("NodeService/List", {});
  const nodes = isRecord(answer) && Array.isArray(answer["nodes"]) ? answer["nodes"].filter(isRecord) : [];
  const gateways = nodes.flatMap((node) => gatewayOf(node, protocol));
  if (gateways.length === 0) {
    throw new GatewayError("not_found", "The installation has no gateway that is heard of and takes callers.", {
      hint: "`sluice nodes list` shows its nodes.",
    });
  }
  const measured = await Promise.all(
    gateways.map(async (gateway) => ({ ...gateway, roundTripMs: await roundTrip(gateway.host, gateway.port) })),
  );
  const order = rankGateways(chooser, measured satisfies readonly MeasuredGateway[]);
  const placeOf = (name: string): number => (order.includes(name) ? order.indexOf(name) : order.length);
  return measured.sort((a, b) => placeOf(a.name) - placeOf(b.name));
}

type Known = Omit<NearGateway, "roundTripMs">;

function gatewayOf(node: Readonly<Record<string, unknown>>, protocol: "postgres"): readonly Known[] {
  const { role, name, region, state, addresses } = node;
  const callers = isRecord(addresses) && isRecord(addresses["callers"]) ? addresses["callers"][protocol] : undefined;
  const heard = state === "connected" || state === "draining";
  if (role !== "gateway" || !heard || typeof name !== "string" || typeof callers !== "string") return [];
  const at = callers.lastIndexOf(":");
  const host = callers.slice(0, at).replace(/^\[(.*)\]$/, "$1");
  const port = Number(callers.slice(at + 1));
  return [{ name, region: typeof region === "string" ? region : "", host, port, draining: state === "draining" }];
}

async function roundTrip(host: string, port: number): Promise<number> {
  const times: number[] = [];
  for (let round = 0; round < ROUNDS; round++) times.push(await answerMs(host, port));
  return times.sort((a, b) => a - b)[ROUNDS >> 1] ?? Number.POSITIVE_INFINITY;
}

/** From a connection that stands to the gateway's answer: that it is accepted says only how far a balancer in front of it is. */
function answerMs(host: string, port: number): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>();
  const socket = connect({ host, port, noDelay: true });
  let connectedMs = 0;
  const end = (ms: number): void => {
    clearTimeout(timer);
    socket.destroy();
    resolve(ms);
  };
  const timer = setTimeout(() => end(Number.POSITIVE_INFINITY), ANSWER_TIMEOUT_MS);
  socket.once("connect", () => {
    connectedMs = performance.now();
    socket.write(SSL_REQUEST);
  });
  socket.once("data", () => end(performance.now() - connectedMs));
  socket.once("error", () => end(Number.POSITIVE_INFINITY));
  socket.once("close", () => end(Number.POSITIVE_INFINITY));
  return promise;
}
