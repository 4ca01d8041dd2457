/**
 * A connection to a PostgreSQL server, up to and including TLS; nothing of the protocol but SSLRequest.
 * Never goes on in clear text when TLS was asked for, never takes a byte that came before TLS as if it had come through it.
 * Spec: PostgreSQL documentation, "SSL Session Encryption"; end-point hash: RFC 5929, section 4.
 */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { connect as connectTcp, isIP, type Socket } from "node:net";
import { checkServerIdentity, connect as connectTls, type TLSSocket } from "node:tls";
import { assertNever } from "@sluice/core/assert-never.ts";
import { GatewayError } from "@sluice/core/errors.ts";
import type { TargetSpec, TlsMode } from "@sluice/core/snapshot.ts";
import { encodeMessage, int32 } from "@sluice/inspect/wire/postgres/frames.ts";
import { LentReads, type TakeBytes } from "./lent-reads.ts";
import type { LoginWire } from "./login.ts";
import { nextChunk } from "./next-chunk.ts";

export type DialTarget = Pick<TargetSpec, "host" | "port" | "tls">;

export interface DialedTarget {
  /** Paused, with one listener for `error` that does nothing: whoever hands it on removes that by `release`. */
  readonly socket: Socket;
  readonly wire: LoginWire;
  /** The address that answered, for a cancel request that must reach the same server. */
  readonly address: string;
  /** As `TargetConnection` has it; not under TLS. */
  readonly lendTo?: (take: TakeBytes | null) => void;
  release(): void;
}

const SSL_REQUEST_CODE = 80_877_103;
/** Shorter than the idle timeouts of common firewalls. */
const KEEP_ALIVE_MS = 60_000;

/**
 * Connects and negotiates TLS as the resource says. `address` replaces the host for the connection alone, never for the
 * certificate's name. Throws GatewayError `target_unreachable` or `target_protocol`; the socket is gone then.
 */
export async function dialTarget(target: DialTarget, signal: AbortSignal, address: string = target.host): Promise<DialedTarget> {
  const { tls } = target;
  if (signal.aborted) throw toDialError(signal.reason);
  const ca = tls.mode !== "disable" && tls.caFile !== undefined ? await readCa(tls.caFile) : undefined;
  // TLS reads the socket by itself, and has memory of its own.
  const reads = tls.mode === "disable" ? new LentReads() : undefined;
  const tcp = connectTcp({
    ...(reads === undefined ? {} : { onread: reads.option }),
    host: address,
    port: target.port,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: KEEP_ALIVE_MS,
  });
  reads?.attach(tcp);
  tcp.on("error", ignore);
  try {
    await once(tcp, "connect", { signal });
    const peer = tcp.remoteAddress ?? address;
    const release = (socket: Socket) => () => void socket.off("error", ignore);
    if (tls.mode === "disable") {
      tcp.pause();
      const wire = { tls: false, verifiedFully: false };
      return { socket: tcp, wire, address: peer, lendTo: (take) => reads?.lendTo(take), release: release(tcp) };
    }
    await requestTls(tcp, signal);
    const secure = await startTls(tcp, target, ca, signal);
    return { socket: secure, wire: wireOf(secure, tls.mode), address: peer, release: release(secure) };
  } catch (error) {
    tcp.destroy();
    throw toDialError(error);
  }
}

/** The words for a connection that failed or took too long; GatewayErrors stay as they are. */
export function toDialError(thrown: unknown): GatewayError {
  if (thrown instanceof GatewayError) return thrown;
  const code = codeOf(thrown);
  if (isAbort(thrown)) {
    return new GatewayError("target_unreachable", "The database did not answer in time.", {
      hint: "Try again in a moment; if it stays so, ask the platform team to check the resource.",
      cause: thrown,
    });
  }
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") {
    return new GatewayError("target_unreachable", "The database's certificate was issued for another name.", {
      hint: "Set target.tls.serverName to a name in the certificate, or mend the certificate.",
      cause: thrown,
    });
  }
  if (/CERT|SELF_SIGNED|ISSUER|UNABLE_TO/.test(code)) {
    return new GatewayError("target_unreachable", "The database's certificate is not one that the resource trusts.", {
      hint: "Set target.tls.caFile to the file with the CA that signs the database's certificate.",
      cause: thrown,
    });
  }
  return new GatewayError("target_unreachable", "The database did not answer.", {
    hint: "Try again in a moment; if it stays so, ask the platform team to check the resource.",
    cause: thrown,
  });
}

async function readCa(file: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (cause) {
    throw new GatewayError("target_unreachable", "The CA file of the resource cannot be read by the agent.", {
      hint: "Check target.tls.caFile: the path is read where the agent runs.",
      cause,
    });
  }
}

async function requestTls(tcp: Socket, signal: AbortSignal): Promise<void> {
  tcp.write(encodeMessage(null, [int32(SSL_REQUEST_CODE)]));
  const answer = await nextChunk(tcp, signal);
  // One byte and no more: what somebody stuffed in before the handshake must never be read as the server's word.
  if (answer.length === 1 && answer[0] === 0x53) return;
  if (answer.length === 1 && answer[0] === 0x4e) {
    throw new GatewayError("target_unreachable", "The database does not offer TLS, and the resource demands it.", {
      hint: "Switch TLS on at the database; only for a target on the same host set target.tls.mode to disable.",
    });
  }
  throw new GatewayError("target_protocol", "What answers at the resource's address does not speak PostgreSQL's protocol.", {
    hint: "Ask the platform team to check the resource's address and port.",
  });
}

async function startTls(tcp: Socket, target: DialTarget, ca: Buffer | undefined, signal: AbortSignal): Promise<TLSSocket> {
  const { mode, serverName } = target.tls;
  const name = serverName ?? target.host;
  const secure = connectTls({
    socket: tcp,
    host: target.host,
    minVersion: "TLSv1.2",
    ALPNProtocols: ["postgresql"],
    ...(ca === undefined ? {} : { ca }),
    ...(isIP(name) === 0 ? { servername: name } : {}),
    rejectUnauthorized: mode !== "require",
    checkServerIdentity: (_host, certificate) => (mode === "verify-full" ? checkServerIdentity(name, certificate) : undefined),
  });
  secure.on("error", ignore);
  const closed = new AbortController();
  const onClose = (): void => closed.abort(new Error("the target closed the connection during the TLS handshake"));
  secure.once("close", onClose);
  try {
    await once(secure, "secureConnect", { signal: AbortSignal.any([signal, closed.signal]) });
    secure.pause();
    return secure;
  } catch (error) {
    secure.destroy();
    throw closed.signal.aborted ? closed.signal.reason : error;
  } finally {
    secure.off("close", onClose);
  }
}

function wireOf(secure: TLSSocket, mode: Exclude<TlsMode, "disable">): LoginWire {
  const endPointHash = hashEndPoint(secure);
  return { tls: true, verifiedFully: isFullyVerified(mode), ...(endPointHash === undefined ? {} : { endPointHash }) };
}

function isFullyVerified(mode: Exclude<TlsMode, "disable">): boolean {
  switch (mode) {
    case "require":
    case "verify-ca":
      return false;
    case "verify-full":
      return true;
    default:
      return assertNever(mode);
  }
}

/** MD5 and SHA-1 give way to SHA-256; a signature without one hash (Ed25519, some RSA-PSS) has no binding. */
function hashEndPoint(secure: TLSSocket): Buffer | undefined {
  const certificate = secure.getPeerX509Certificate();
  const algorithm = /md5|sha-?(?:1|224|256|384|512)/i.exec(certificate?.signatureAlgorithm ?? "")?.[0].toLowerCase();
  if (certificate === undefined || algorithm === undefined) return undefined;
  const hash = /md5|sha-?1$/.test(algorithm) ? "sha256" : algorithm.replace("-", "");
  return createHash(hash).update(certificate.raw).digest();
}

function codeOf(thrown: unknown): string {
  const code = thrown instanceof Error ? (thrown as NodeJS.ErrnoException).code : undefined; // sockets reject with these
  return code ?? "";
}

function isAbort(thrown: unknown): boolean {
  return thrown instanceof Error && (thrown.name === "AbortError" || thrown.name === "TimeoutError");
}

/** The one who waits hears of a fault by its own listener; this one keeps a late fault from ending the process. */
function ignore(): void {}
