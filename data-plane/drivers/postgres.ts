/**
 * A PostgreSQL connection from its first byte to its last: login, resource, target, session. With postgres-login.ts and the session
 * the only files that join the PostgreSQL machines to sockets. A second protocol gets files of this shape beside them.
 */
import { GatewayError, toGatewayError } from "@sluice/core/errors.ts";
import { newSessionId, type SessionId } from "@sluice/core/ids.ts";
import type { TargetAccount } from "@sluice/core/snapshot.ts";
import type { SessionClosed } from "@sluice/events/session-events.ts";
import { accountFor } from "@sluice/inspect/policy/account.ts";
import { encodeGatewayError } from "@sluice/inspect/wire/postgres/errors.ts";
import { requireFixedSettings } from "@sluice/inspect/wire/postgres/target-texts.ts";
import type { TargetConnection } from "@sluice/rpc/agent-link.ts";
import { notTraced, type SessionTrace } from "@sluice/telemetry/session-trace.ts";
import type { Logger } from "pino";
import type { GatewayParts } from "../gateway-parts.ts";
import type { Release } from "../listen/admission.ts";
import { SessionJudge } from "../session/judge.ts";
import { PostgresSession } from "../session/postgres-session.ts";
import {
  accessLost,
  disabledError,
  recordsStrictly,
  type ResolvedResource,
  resolveResource,
  staleError,
} from "../session/resource-access.ts";
import { SessionLog } from "../session/session-log.ts";
import type { AcceptedConnection } from "./driver.ts";
import { destroySoon, type Login, openFrontDoor } from "./postgres-login.ts";

/** PostgreSQL cuts application_name at 63 bytes; the session id must stay whole. */
const APPLICATION_NAME_BYTES_MAX = 63;
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
    parts.metrics.connectionRefused(failure.code);
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
    parts.metrics.connectionRefused(failure.code);
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

async function serveSession(parts: GatewayParts, connection: AcceptedConnection, login: Login): Promise<void> {
  const { stream, startup, principal, door } = login;
  const sessionId = newSessionId(parts.random);
  const opening = new AbortController();
  const vanished = (): void => opening.abort();
  stream.once("close", vanished);
  const forget = parts.sessions.add({
    id: sessionId,
    idle: true,
    strict: false, // looked at again before the session runs
    terminate: (error) => opening.abort(error),
  });
  const began = (): void => {
    stream.off("close", vanished);
    forget();
  };
  let release: Release = () => {};
  let target: TargetConnection | undefined;
  let trace: SessionTrace = notTraced;
  let code: string | undefined;
  try {
    if (parts.draining()) throw draining();
    release = parts.admission.open(connection.clientAddress, JSON.stringify([principal.issuer, principal.subject]));
    const policy = parts.policies.current;
    const disabled = disabledError(policy, principal, "login_failed");
    if (disabled !== null) throw disabled;
    const resolved = resolveResource(policy, principal, startup.database, "postgres");
    const catalog = parts.catalogs.entry(resolved.resource, resolved.database);
    const stale = staleError(parts.policies, recordsStrictly(resolved.resource, catalog));
    if (stale !== null) throw stale;
    catalog.refreshIfAbsent();
    const account = accountFor(policy.compiled, principal, resolved.resource);
    trace = parts.traces.session(resolved.resource.name, sessionId);
    target = await watchedOpening(parts, trace, () =>
      openTarget(parts, { ...resolved, account }, login, sessionId, opening.signal),
    );
    // Nobody else listens to it until the session does, and a reset must end no more than this connection.
    target.stream.on("error", ignore);
    opening.signal.throwIfAborted();
    code = "internal";
    code = await runSession(parts, connection, {
      ...login,
      sessionId,
      resolved,
      account,
      target,
      signal: opening.signal,
      began,
      trace,
    });
  } catch (error) {
    target?.stream.destroy();
    const reason: unknown = opening.signal.reason;
    const failure = reason instanceof GatewayError ? reason : toGatewayError(error);
    const about = { code: failure.code, sessionId, subject: principal.subject, resource: startup.database };
    const reached = code !== undefined;
    code = stream.destroyed ? "caller_gone" : failure.code;
    if (!reached) parts.metrics.connectionRefused(code);
    if (stream.destroyed) parts.log.info({ ...about, code: "caller_gone" }, "a caller left before its session began");
    else {
      stream.end(door.refuse(failure));
      if (failure.code === "internal") parts.log.error({ err: error, sessionId }, "a session could not begin");
      else parts.log.info(about, "a session was refused");
    }
  } finally {
    trace.end(code ?? "internal");
    began();
    release();
  }
}

interface Opening extends Login {
  readonly sessionId: SessionId;
  readonly resolved: ResolvedResource;
  readonly account: TargetAccount;
  readonly target: TargetConnection;
  /** Aborts while the session is not running yet: the caller is gone, or the gateway is going. */
  readonly signal: AbortSignal;
  /** The session itself sees to its end from now on. */
  readonly began: () => void;
  readonly trace: SessionTrace;
}

/** Resolves with the code of the ending. */
async function runSession(parts: GatewayParts, connection: AcceptedConnection, opening: Opening): Promise<string> {
  const { stream, startup, principal, sessionId, resolved, account, target } = opening;
  const sessionLog = new SessionLog(sessionId, parts.spool, parts.clock);
  const judge = new SessionJudge({
    principal,
    resource: resolved.resource,
    account,
    facts: {
      id: sessionId,
      clientAddress: connection.clientAddress,
      application: startup.target["application_name"] ?? "",
      startedAtMs: parts.clock.nowMs(),
      declared: startup.declared,
    },
    catalog: parts.catalogs.entry(resolved.resource, resolved.database),
    ...(target.session === undefined ? {} : { start: target.session }),
    analyser: parts.analyser,
    policies: parts.policies,
    log: sessionLog,
    limits: parts.limits,
    clock: parts.clock,
    random: parts.random,
    metrics: parts.metrics,
    trace: opening.trace,
  });
  parts.metrics.sessionBegan(resolved.resource.name);
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
    const lost = accessLost(parts.policies.current, principal, resolved) ?? staleError(parts.policies, judge.strict); // things may have changed since
    if (lost !== null) throw lost;
    requireFixedSettings(target.parameters);
    const { limits, clock, metrics } = parts;
    const session = new PostgresSession({ caller: stream, target, judge, sessionLog, limits, clock, log, metrics });
    code = await beginSession(parts, opening, session, log);
    return code;
  } catch (error) {
    code = stream.destroyed ? "caller_gone" : toGatewayError(error).code;
    throw error;
  } finally {
    const { statements, denied, masked } = judge.counts;
    log.info({ code, statements, denied, masked }, "a session ended");
    parts.metrics.sessionEnded(resolved.resource.name, code);
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
    if (lost === null) session.reconsider();
    else session.terminate(lost);
  });
  opening.began();
  try {
    const parameters = [
      ...target.parameters.filter(([name]) => name !== "session_authorization"),
      ["sluice.session_id", sessionId] as const,
    ];
    stream.write(door.accept({ parameters, processId: key.processId, secret: key.secret, protocolMinor: startup.protocolMinor }));
    log.info("a session began");
    const ended = session.run(door.rest());
    target.stream.off("error", ignore); // the session listens itself by now
    return await ended;
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

/** How long it took, or why it failed. */
async function watchedOpening(
  parts: GatewayParts,
  trace: SessionTrace,
  open: () => Promise<TargetConnection>,
): Promise<TargetConnection> {
  const ended = trace.openTarget();
  const startedMs = parts.clock.monotonicMs();
  try {
    const target = await open();
    parts.metrics.targetOpened(parts.clock.monotonicMs() - startedMs);
    ended(null);
    return target;
  } catch (error) {
    const { code } = toGatewayError(error);
    parts.metrics.targetFailed(code);
    ended(code);
    throw error;
  }
}

function openTarget(
  parts: GatewayParts,
  { resource, database, account }: ResolvedResource & { readonly account: TargetAccount },
  { startup, principal }: Login,
  sessionId: SessionId,
  opening: AbortSignal,
): Promise<TargetConnection> {
  return parts.agentLink.openTarget({
    resource,
    database,
    sessionId,
    account,
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

/** Whoever waits hears of a fault by its own listener; this one keeps a late fault from ending the process. */
function ignore(): void {}

function draining(): GatewayError {
  return new GatewayError("draining", "This gateway is shutting down.", {
    hint: "Connect again: another gateway, or this one once it is back.",
  });
}
