/**
 * A PostgreSQL connection from its first byte to its last: front door, TLS, authentication, resource, target, session. The only
 * file that joins the PostgreSQL machines to sockets. A second protocol gets a file of this shape beside it.
 */
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import { GatewayError, toGatewayError } from "@sluice/core/errors.ts";
import { newSessionId, type SessionId } from "@sluice/core/ids.ts";
import type { Principal } from "@sluice/core/principal.ts";
import type { SessionClosed } from "@sluice/events/session-events.ts";
import { encodeGatewayError } from "@sluice/inspect/wire/postgres/errors.ts";
import {
  FrontDoor,
  type FrontDoorEvent,
  isTlsClientHello,
  type StartupRequest,
} from "@sluice/inspect/wire/postgres/front-door.ts";
import type { TargetConnection } from "@sluice/rpc/agent-link.ts";
import type { Logger } from "pino";
import type { GatewayParts } from "../gateway-parts.ts";
import type { Release } from "../listen/admission.ts";
import { SessionJudge } from "../session/judge.ts";
import { PostgresSession } from "../session/postgres-session.ts";
import { accessLost, type ResolvedResource, resolveResource } from "../session/resource-access.ts";
import { SessionLog } from "../session/session-log.ts";
import type { AcceptedConnection } from "./driver.ts";

/** Protocol name in ALPN, registered for PostgreSQL; required for TLS without an SSLRequest. */
const ALPN = "postgresql";
/** PostgreSQL cuts application_name at 63 bytes; the session id must stay whole. */
const APPLICATION_NAME_BYTES_MAX = 63;
/** A caller that does not take its last words is cut off. Milliseconds. */
const GOODBYE_MS = 2_000;
/** The longest wait a timer takes, 24 days; longer ones would be over at once. Milliseconds. */
const TIMER_MS_MAX = 0x7fff_ffff;

/** Serves one connection. Never rejects; the socket is destroyed when it resolves. */
export async function servePostgres(parts: GatewayParts, connection: AcceptedConnection): Promise<void> {
  const { socket } = connection;
  let release: Release = () => {};
  try {
    release = parts.admission.enter(connection.clientAddress);
  } catch (error) {
    const failure = toGatewayError(error);
    parts.log.info({ code: failure.code, clientAddress: connection.clientAddress }, "a connection was refused");
    socket.end(encodeGatewayError(failure, "FATAL"));
    socket.resume(); // its going is seen, and what it still sends is dropped
    destroySoon(socket);
    return;
  }
  try {
    const login = await openFrontDoor(parts, connection);
    release();
    if (login !== null) await serveSession(parts, connection, login);
  } catch (error) {
    const failure = toGatewayError(error);
    if (failure.code === "internal") parts.log.error({ err: error }, "a connection ended by a fault before its session began");
    else
      parts.log.info(
        { code: failure.code, reason: failure.detail?.["reason"], clientAddress: connection.clientAddress },
        "a connection was refused",
      );
  } finally {
    release();
    destroySoon(socket);
  }
}

interface Login {
  readonly stream: Socket;
  readonly door: FrontDoor;
  readonly startup: StartupRequest;
  readonly principal: Principal;
  readonly expiresAtMs: number;
}

/** From the first byte to a verified token. Null: the connection ended in an ordinary way (a cancel request, a port probe). */
function openFrontDoor(parts: GatewayParts, connection: AcceptedConnection): Promise<Login | null> {
  return new Promise((resolve, reject) => {
    let stream: Socket = connection.socket;
    const door = new FrontDoor({ limits: parts.limits, tls: parts.certificate === null ? "plaintext" : "required" });
    let started = false;
    const ended = (): void => {
      clearTimeout(deadline);
      resolve(null);
    };
    const deadline = setTimeout(() => fail(loginTimeout()), parts.limits.authenticationTimeoutMs);
    const detach = (): void => {
      stream.off("data", receive);
      stream.off("close", ended);
      stream.pause();
    };
    const fail = (error: unknown): void => {
      clearTimeout(deadline);
      detach();
      if (stream.writable) stream.end(encodeGatewayError(toGatewayError(error), "FATAL"));
      stream.resume();
      reject(toGatewayError(error));
    };
    /** Nothing more is taken from this connection: what it still sends is dropped, not kept. */
    const leave = (): void => {
      stream.off("data", receive);
      stream.end();
      stream.resume();
      destroySoon(stream);
    };
    const attach = (): void => {
      stream.on("data", receive);
      stream.on("close", ended);
      stream.on("error", ended);
      stream.resume();
    };
    const upgrade = (direct: boolean): void => {
      detach();
      const secured = secure(parts, stream);
      secured.once("secure", () => {
        if (direct && secured.alpnProtocol !== ALPN) {
          secured.destroy();
          resolve(null);
          return;
        }
        door.tlsEstablished();
      });
      stream = secured;
      attach();
    };
    const authenticate = (startup: StartupRequest, token: string): void => {
      detach();
      parts.verifier.verify(token).then((verified) => {
        clearTimeout(deadline);
        resolve(stream.destroyed ? null : { stream, door, startup, ...verified });
      }, fail);
    };
    const act = (event: FrontDoorEvent): void => {
      switch (event.kind) {
        case "send":
          stream.write(event.bytes);
          break;
        case "upgradeTls":
          upgrade(false);
          break;
        case "cancel":
          parts.cancelKeys.redeem(event.processId, event.secret);
          leave();
          break;
        case "authenticate":
          authenticate(event.startup, event.token);
          break;
        case "end":
          if (event.error !== null) fail(event.error);
          else leave();
          break;
      }
    };
    function receive(chunk: Buffer): void {
      if (!started) {
        started = true;
        if (stream === connection.socket && parts.certificate !== null && isTlsClientHello(chunk[0]!)) {
          stream.pause();
          stream.unshift(chunk);
          upgrade(true);
          return;
        }
      }
      try {
        for (const event of door.receive(chunk)) act(event);
      } catch (error) {
        fail(error);
      }
    }
    attach();
    if (connection.early.length > 0) receive(connection.early);
  });
}

async function serveSession(parts: GatewayParts, connection: AcceptedConnection, login: Login): Promise<void> {
  const { stream, startup, principal, door } = login;
  const sessionId = newSessionId(parts.random);
  const opening = new AbortController();
  const vanished = (): void => opening.abort();
  stream.once("close", vanished);
  const forget = parts.sessions.add({ idle: true, terminate: (error) => opening.abort(error) });
  const began = (): void => {
    stream.off("close", vanished);
    forget();
  };
  let release: Release = () => {};
  let target: TargetConnection | undefined;
  try {
    if (parts.draining()) throw draining();
    release = parts.admission.open(connection.clientAddress, JSON.stringify([principal.issuer, principal.subject]));
    const resolved = resolveResource(parts.policies.current, principal, startup.database, "postgres");
    const catalog = parts.catalogs.entry(resolved.resource, resolved.database);
    catalog.refreshIfAbsent();
    target = await openTarget(parts, resolved, login, sessionId, opening.signal);
    // Nobody else listens to it until the session does, and a reset must end no more than this connection.
    target.stream.on("error", ignore);
    opening.signal.throwIfAborted();
    await runSession(parts, connection, { ...login, sessionId, resolved, target, signal: opening.signal, began });
  } catch (error) {
    target?.stream.destroy();
    const reason: unknown = opening.signal.reason;
    const failure = reason instanceof GatewayError ? reason : toGatewayError(error);
    const about = { code: failure.code, sessionId, subject: principal.subject, resource: startup.database };
    if (stream.destroyed) parts.log.info({ ...about, code: "caller_gone" }, "a caller left before its session began");
    else {
      stream.end(door.refuse(failure));
      if (failure.code === "internal") parts.log.error({ err: error, sessionId }, "a session could not begin");
      else parts.log.info(about, "a session was refused");
    }
  } finally {
    began();
    release();
  }
}

interface Opening extends Login {
  readonly sessionId: SessionId;
  readonly resolved: ResolvedResource;
  readonly target: TargetConnection;
  /** Aborts while the session is not running yet: the caller is gone, or the gateway is going. */
  readonly signal: AbortSignal;
  /** The session itself sees to its end from now on. */
  readonly began: () => void;
}

async function runSession(parts: GatewayParts, connection: AcceptedConnection, opening: Opening): Promise<void> {
  const { stream, startup, principal, sessionId, resolved, target } = opening;
  const sessionLog = new SessionLog(sessionId, parts.spool, parts.clock);
  const judge = new SessionJudge({
    principal,
    resource: resolved.resource,
    facts: {
      id: sessionId,
      clientAddress: connection.clientAddress,
      application: startup.target["application_name"] ?? "",
      startedAtMs: parts.clock.nowMs(),
      declared: startup.declared,
    },
    catalog: parts.catalogs.entry(resolved.resource, resolved.database),
    analyser: parts.analyser,
    policies: parts.policies,
    log: sessionLog,
    limits: parts.limits,
    clock: parts.clock,
    random: parts.random,
  });
  const log = parts.log.child({ sessionId, subject: principal.subject, resource: resolved.resource.name });
  sessionLog.append({
    kind: "opened",
    opened: {
      resource: resolved.resource.name,
      database: resolved.database,
      protocol: "postgres",
      principal: {
        subject: principal.subject,
        issuer: principal.issuer,
        groups: principal.groups,
        owner: principal.owner,
        task: principal.task,
      },
      clientAddress: connection.clientAddress,
      declared: {
        ...startup.declared,
        ...(startup.target["application_name"] === undefined ? {} : { application_name: startup.target["application_name"] }),
      },
      policyVersion: parts.policies.current.snapshot.version,
      recording: judge.strict ? "strict" : "relaxed",
    },
  });
  let code = "internal";
  try {
    if (judge.strict) await sessionLog.durable();
    opening.signal.throwIfAborted();
    const lost = accessLost(parts.policies.current, principal, resolved); // the policy may have changed since
    if (lost !== null) throw lost;
    const session = new PostgresSession({ caller: stream, target, judge, sessionLog, limits: parts.limits, log });
    code = await beginSession(parts, opening, session, log);
  } catch (error) {
    code = stream.destroyed ? "caller_gone" : toGatewayError(error).code;
    throw error;
  } finally {
    const { statements, denied, masked } = judge.counts;
    log.info({ code, statements, denied, masked }, "a session ended");
    recordEnd(sessionLog, { code, statements, denied, masked }, log);
  }
}

/** Welcomes the caller and runs the session to its end; resolves with the code of that. */
async function beginSession(parts: GatewayParts, opening: Opening, session: PostgresSession, log: Logger): Promise<string> {
  const { stream, startup, door, sessionId, target } = opening;
  const key = parts.cancelKeys.issue(startup.protocolMinor, () => session.cancel());
  const stopExpiry = endAtExpiry(parts, opening.expiresAtMs, session);
  const forget = parts.sessions.add(session);
  const stopWatching = parts.policies.onChange((policy) => {
    const lost = accessLost(policy, opening.principal, opening.resolved);
    if (lost !== null) session.terminate(lost);
  });
  opening.began();
  try {
    const parameters = [
      ...target.parameters.filter(([name]) => name !== "session_authorization"),
      ["sluice.session_id", sessionId] as const,
    ];
    stream.write(door.accept({ parameters, processId: key.processId, secret: key.secret, protocolMinor: startup.protocolMinor }));
    log.info("a session began");
    return await session.run(door.rest());
  } finally {
    stopExpiry();
    stopWatching();
    forget();
    parts.cancelKeys.revoke(key);
  }
}

/** A spool that takes nothing more is what ended the session: that its end is missing there too is said in the log. */
function recordEnd(sessionLog: SessionLog, closed: SessionClosed, log: Logger): void {
  try {
    sessionLog.append({ kind: "closed", closed });
  } catch (error) {
    log.warn({ err: error }, "the end of a session could not be recorded");
  }
}

function openTarget(
  parts: GatewayParts,
  { resource, database }: ResolvedResource,
  { startup, principal }: Login,
  sessionId: SessionId,
  opening: AbortSignal,
): Promise<TargetConnection> {
  return parts.agentLink.openTarget({
    resource,
    database,
    sessionId,
    startup: { ...startup.target, application_name: targetApplicationName(principal.subject, sessionId) },
    signal: AbortSignal.any([AbortSignal.timeout(parts.limits.targetConnectTimeoutMs), opening]),
  });
}

/** What the target's own logs and activity view say: who, and which session. Printable ASCII, session id last and whole. */
export function targetApplicationName(subject: string, sessionId: SessionId): string {
  const room = APPLICATION_NAME_BYTES_MAX - sessionId.length - 1;
  return `${subject.replaceAll(/[^\x21-\x7e]/g, "?").slice(0, room)} ${sessionId}`;
}

/** Ends the session when its token's time and the grace are over. Returns how to stop that. */
function endAtExpiry(parts: GatewayParts, expiresAtMs: number, session: PostgresSession): () => void {
  const expired = new GatewayError("killed", "The token this session began with has expired.", {
    hint: "Connect again with a fresh token.",
  });
  const leftMs = (): number => expiresAtMs + parts.limits.tokenGraceMs - parts.clock.nowMs();
  let timer: NodeJS.Timeout;
  const arm = (): void => {
    timer = setTimeout(look, Math.min(Math.max(leftMs(), 0), TIMER_MS_MAX)).unref();
  };
  const look = (): void => {
    if (leftMs() <= 0) session.terminate(expired);
    else arm();
  };
  arm();
  return () => clearTimeout(timer);
}

function secure(parts: GatewayParts, socket: Socket): TLSSocket {
  const { certificate } = parts;
  if (certificate === null) throw new GatewayError("internal", "There is no certificate to secure a connection with.");
  return new TLSSocket(socket, { isServer: true, secureContext: certificate.context, ALPNProtocols: [ALPN] });
}

/** Lets last words leave, then makes sure that the socket is gone. */
function destroySoon(socket: Socket): void {
  setTimeout(() => socket.destroy(), GOODBYE_MS).unref();
}

/** Whoever waits hears of a fault by its own listener; this one keeps a late fault from ending the process. */
function ignore(): void {}

function loginTimeout(): GatewayError {
  return new GatewayError("login_timeout", "The login took too long.", {
    hint: "Send the token as password right after connecting.",
  });
}

function draining(): GatewayError {
  return new GatewayError("draining", "This gateway is shutting down.", {
    hint: "Connect again: another gateway, or this one once it is back.",
  });
}
