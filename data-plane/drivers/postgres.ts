/**
 * A PostgreSQL connection from its first byte to its last: front door, TLS, authentication, resource, target, session. The only
 * file that joins the PostgreSQL machines to sockets. A second protocol gets a file of this shape beside it.
 */
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import { GatewayError, toGatewayError } from "@sluice/core/errors.ts";
import { newSessionId, type SessionId } from "@sluice/core/ids.ts";
import type { Principal } from "@sluice/core/principal.ts";
import { encodeGatewayError } from "@sluice/inspect/wire/postgres/errors.ts";
import {
  FrontDoor,
  type FrontDoorEvent,
  isTlsClientHello,
  type StartupRequest,
} from "@sluice/inspect/wire/postgres/front-door.ts";
import type { TargetConnection } from "@sluice/rpc/agent-link.ts";
import type { GatewayParts } from "../gateway-parts.ts";
import type { Release } from "../listen/admission.ts";
import { SessionJudge } from "../session/judge.ts";
import { PostgresSession } from "../session/postgres-session.ts";
import { type ResolvedResource, resolveResource } from "../session/resource-access.ts";
import { SessionLog } from "../session/session-log.ts";
import type { AcceptedConnection } from "./driver.ts";

/** Protocol name in ALPN, registered for PostgreSQL; required for TLS without an SSLRequest. */
const ALPN = "postgresql";
/** PostgreSQL cuts application_name at 63 bytes; the session id must stay whole. */
const APPLICATION_NAME_BYTES_MAX = 63;
/** A caller that does not take its last words is cut off. Milliseconds. */
const GOODBYE_MS = 2_000;

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
    let door = new FrontDoor({ limits: parts.limits, tls: parts.certificate === null ? "plaintext" : "required" });
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
      reject(toGatewayError(error));
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
        resolve({ stream, door, startup, ...verified });
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
          stream.end();
          break;
        case "authenticate":
          authenticate(event.startup, event.token);
          break;
        case "end":
          if (event.error !== null) fail(event.error);
          else stream.end();
          break;
      }
    };
    function receive(chunk: Buffer): void {
      if (!started) {
        started = true;
        if (stream === connection.socket && parts.certificate !== null && isTlsClientHello(chunk[0]!)) {
          stream.pause();
          stream.unshift(chunk);
          door = new FrontDoor({ limits: parts.limits, tls: "required" });
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
  let release: Release = () => {};
  let target: TargetConnection | undefined;
  try {
    if (parts.draining()) throw draining();
    release = parts.admission.open(connection.clientAddress, JSON.stringify([principal.issuer, principal.subject]));
    const resolved = resolveResource(parts.policies.current, principal, startup.database, "postgres");
    const catalog = parts.catalogs.entry(resolved.resource, resolved.database);
    catalog.refreshIfAbsent();
    target = await openTarget(parts, resolved, startup, principal, sessionId);
    await runSession(parts, connection, { ...login, sessionId, resolved, target });
  } catch (error) {
    const failure = toGatewayError(error);
    if (!stream.destroyed) stream.end(door.refuse(failure));
    if (failure.code === "internal") parts.log.error({ err: error, sessionId }, "a session could not begin");
    else
      parts.log.info(
        { code: failure.code, sessionId, subject: principal.subject, resource: startup.database },
        "a session was refused",
      );
    target?.stream.destroy();
  } finally {
    release();
  }
}

interface Opening extends Login {
  readonly sessionId: SessionId;
  readonly resolved: ResolvedResource;
  readonly target: TargetConnection;
}

async function runSession(parts: GatewayParts, connection: AcceptedConnection, opening: Opening): Promise<void> {
  const { stream, startup, principal, sessionId, resolved, target, door } = opening;
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
  if (judge.strict) await sessionLog.durable();
  const session = new PostgresSession({ caller: stream, target, judge, sessionLog, limits: parts.limits, log });
  const key = parts.cancelKeys.issue(startup.protocolMinor, () => session.cancel());
  const expiry = endAtExpiry(parts, opening.expiresAtMs, session);
  const forget = parts.sessions.add(session);
  try {
    const parameters = [
      ...target.parameters.filter(([name]) => name !== "session_authorization"),
      ["sluice.session_id", sessionId] as const,
    ];
    stream.write(door.accept({ parameters, processId: key.processId, secret: key.secret, protocolMinor: startup.protocolMinor }));
    log.info("a session began");
    const code = await session.run(door.rest());
    const { statements, denied, masked } = judge.counts;
    log.info({ code, statements, denied, masked }, "a session ended");
    sessionLog.append({ kind: "closed", closed: { code, statements, denied, masked } });
  } finally {
    clearTimeout(expiry);
    forget();
    parts.cancelKeys.revoke(key);
  }
}

function openTarget(
  parts: GatewayParts,
  resolved: ResolvedResource,
  startup: StartupRequest,
  principal: Principal,
  sessionId: SessionId,
): Promise<TargetConnection> {
  return parts.agentLink.openTarget({
    resource: resolved.resource,
    database: resolved.database,
    sessionId,
    startup: { ...startup.target, application_name: targetApplicationName(principal.subject, sessionId) },
    signal: AbortSignal.timeout(parts.limits.targetConnectTimeoutMs),
  });
}

/** What the target's own logs and activity view say: who, and which session. Printable ASCII, session id last and whole. */
export function targetApplicationName(subject: string, sessionId: SessionId): string {
  const room = APPLICATION_NAME_BYTES_MAX - sessionId.length - 1;
  return `${subject.replaceAll(/[^\x21-\x7e]/g, "?").slice(0, room)} ${sessionId}`;
}

function endAtExpiry(parts: GatewayParts, expiresAtMs: number, session: PostgresSession): NodeJS.Timeout {
  const expired = new GatewayError("killed", "The token this session began with has expired.", {
    hint: "Connect again with a fresh token.",
  });
  // Longer waits overflow the timer; a session of 24 days looks again then.
  const waitMs = Math.min(Math.max(expiresAtMs + parts.limits.tokenGraceMs - parts.clock.nowMs(), 0), 0x7fff_ffff);
  return setTimeout(() => session.terminate(expired), waitMs).unref();
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
