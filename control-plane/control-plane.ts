/**
 * Starts the control plane: store, certificate authority, development issuer, manifests in force, index of sessions, admin API, and
 * where other processes are to join, the nodes' listener. One function for both ways of running. All or nothing: what had started is
 * closed again when a later part fails. It never holds a target secret and never sees a row.
 */
import { join } from "node:path";
import { GatewayError } from "@sluice/core/errors.ts";
import { allOrNothing, type Started } from "@sluice/core/started.ts";
import type { DecisionExplainer } from "@sluice/rpc/explain.ts";
import { EnrolmentService } from "@sluice/proto/sluice/enrolment/v1/enrolment_pb.ts";
import { implement } from "@sluice/rpc/grpc/server.ts";
import type { RecordingReader } from "@sluice/rpc/recordings.ts";
import type { ControlPlaneMetrics } from "@sluice/telemetry/plane-metrics.ts";
import { startAdminServer } from "./api/admin-server.ts";
import { adminMethods } from "./api/methods.ts";
import type { JoinTokensAdmin } from "./api/services.ts";
import { type Authority, openAuthority } from "./ca/authority.ts";
import { type AuthorityFiles, openAuthorityFiles } from "./ca/authority-files.ts";
import { countingApplies, countingEnrolments, openMetrics } from "./counting.ts";
import { createEnrolment } from "./enrolment/enrolment.ts";
import { openDevelopment } from "./identity/development.ts";
import type { ControlPlane, ControlPlaneOptions } from "./interface.ts";
import { openKeyEncryption } from "./keys/key-encryption.ts";
import type { ConnectedNode } from "./nodes/connected-node.ts";
import { createNodesAdmin, createSealing } from "./nodes/nodes-admin.ts";
import { type NodesServer, startNodesServer } from "./nodes/nodes-server.ts";
import { createSessionCommands, type SessionCommands } from "./nodes/session-commands.ts";
import { showFault } from "./publish/check.ts";
import { createHistory } from "./publish/history.ts";
import { createPrincipalsAdmin } from "./publish/principals-admin.ts";
import { type Bindings, createBindings } from "./publish/bindings.ts";
import { createPublisher, type ApplyRequest, type Publisher } from "./publish/publisher.ts";
import { issueServerCertificates, keepServerCertificates, urlOf } from "./server-certificates.ts";
import { type Changes, listenForChanges } from "./store/changes.ts";
import { startJobs } from "./store/jobs.ts";
import { openSessionIndex, type SessionIndex } from "./store/session-index.ts";
import { openStore, type Store } from "./store/store.ts";

export type { ControlPlane, ControlPlaneOptions } from "./interface.ts";

/**
 * Rejects with `config_invalid` when the manifests have faults (all of them in the message, one a line, as file:line: text), when
 * the store cannot be used or an address cannot be had.
 */
export async function startControlPlane(options: ControlPlaneOptions): Promise<ControlPlane> {
  const { stop, ...plane } = await allOrNothing(options.log, (started) => start(options, started));
  return { ...plane, close: stop };
}

async function start(options: ControlPlaneOptions, started: Started): Promise<Omit<ControlPlane, "close">> {
  const { config, limits, clock, random, log } = options;
  const replica = `replica-${Buffer.from(random.bytes(6)).toString("hex")}`;
  const shared = await openShared(options, started);
  const { store, changes, authority, files } = shared;
  const { db } = store;
  const certificates = await issueServerCertificates(files, config);
  const development = await openDevelopment({ ...options, certificate: certificates.admin, authority, caFile: files.caFile });
  started.add("development", () => development.close());

  const connected = new Map<string, ConnectedNode>();
  const uncounted = createPublisher({ db, changes, clock, log });
  started.add("publisher", () => uncounted.close());
  const metrics = openMetrics(options.meter, { publisher: uncounted, connected });
  const publisher = countingApplies(uncounted, metrics);
  await applyConfigured(publisher, options, development.settings);
  const sessionIndex = await openSessionIndex({ db, clock, limits, log, ends: endedSessions(options) });
  const commands = createSessionCommands({ db, changes, random, log, nodes: () => connected.values() });
  started.add("commands", () => commands.close());

  const onRefused = (columns: number): void => metrics.bindingsRefused(columns);
  const bindings = createBindings({ db, publisher, limits, clock, log, onRefused });
  started.add("bindings", () => bindings.close());

  const parts: Parts = { ...shared, replica, publisher, sessionIndex, commands, connected, metrics, bindings };
  const nodes = await startNodes(options, parts, started);
  const principals = createPrincipalsAdmin({ db, publisher, log });
  const installation = {
    nodes: createNodesAdmin({ db, authority, connected }),
    authorities: authority,
    sessions: commands.admin,
    principals,
    bindings: bindings.admin,
    history: createHistory(db),
    sealing: createSealing(db, options.sealingKey ?? ""),
    joinTokens: nodes?.joinTokens ?? null,
  };
  const explainer = options.explainer ?? ((): DecisionExplainer => nodesOf(nodes).explainer);
  const recordings = options.recordings ?? recordingsOf(nodes);
  const adminToken = Buffer.from(random.bytes(32)).toString("base64url");
  const server = await startAdminServer({
    listen: config.controlPlane.listen,
    certificate: certificates.admin,
    token: adminToken,
    methods: adminMethods({ publisher, sessionIndex, recordings, explainer, issuer: development.issuer, installation }),
    ready: () => store.ready(),
    limits,
    log,
  });
  started.add("server", () => server.close());
  const reload = async (): Promise<void> => {
    await server.reloadCertificate();
    await development.issuer?.reloadCertificate();
  };
  started.add(
    "server certificates",
    keepServerCertificates(files, (listener) => authority.onChange(listener), { config, reload, log }),
  );
  started.add("development issuer", keepDevelopment(development, parts, options));
  const jobs = { authorities: authority, sessions: nodes === undefined ? null : sessionIndex };
  started.add("jobs", startJobs({ db, holder: replica, goneMs: limits.nodeGoneMs, log, ...jobs }));

  const adminUrl = urlOf(config.controlPlane.listen.host, server.port);
  log.info({ adminUrl, version: publisher.snapshots.current.version }, "control plane ready");
  return {
    adminUrl,
    adminToken,
    caFile: files.caFile,
    issuerUrl: development.issuer?.issuer,
    gatewayCertificate: certificates.gateway,
    snapshots: publisher.snapshots,
    snapshotSequence: () => Number(publisher.feed.newest?.sequence ?? 0),
    sessionIndex: sessionIndex.consumer,
    nodesAddress: nodes?.address ?? null,
    nodeIdentity: nodes?.identity ?? null,
    ready: () => store.ready(),
    onEndSession: (listener) => commands.onEndSession(listener),
    takeBindings: (gateway, report) => bindings.take(gateway, report),
  };
}

/** What is on the store, for all that follows. */
interface Shared {
  readonly store: Store;
  readonly changes: Changes;
  readonly authority: Authority;
  readonly files: AuthorityFiles;
}

interface Parts extends Shared {
  readonly replica: string;
  readonly publisher: Publisher;
  readonly sessionIndex: SessionIndex;
  readonly commands: SessionCommands;
  readonly connected: Map<string, ConnectedNode>;
  readonly metrics: ControlPlaneMetrics;
  readonly bindings: Bindings;
}

async function openShared(options: ControlPlaneOptions, started: Started): Promise<Shared> {
  const { config, dataDirectory, limits, clock, random, log } = options;
  const { store: address, encryptionKey } = config.controlPlane;
  const keys = await openKeyEncryption({
    source: encryptionKey,
    embeddedStore: address.kind === "embedded",
    dataDirectory,
    readEnvironment: options.readEnvironment ?? (() => undefined),
    random,
    limits,
    log,
  });
  const store = await openStore({ address, directory: join(dataDirectory, "store"), log, limits });
  started.add("store", () => store.close());
  const changes = await listenForChanges({ connection: store.connection, random, log });
  started.add("changes", () => changes.close());
  const directory = join(dataDirectory, "ca");
  const authority = await openAuthority({ db: store.db, keys, changes, clock, random, limits, log, importFrom: directory });
  started.add("authority", () => authority.close());
  const files = await openAuthorityFiles({ directory, authority, clock, log });
  started.add("authority files", async () => {
    files.close();
    await files.settled();
  });
  return { store, changes, authority, files };
}

async function applyConfigured(
  publisher: Publisher,
  { manifestFiles }: ControlPlaneOptions,
  development: ApplyRequest["development"],
): Promise<void> {
  const settings = development === undefined ? {} : { development };
  const result = await publisher.apply({ files: manifestFiles, origin: "config", author: "configuration", ...settings });
  if (result.ok) return;
  const faults = result.faults.map((fault) => showFault(fault)).join("\n");
  throw new GatewayError("config_invalid", `The manifests have faults:\n${faults}`, {
    hint: "Nothing was started. Mend the files and start again.",
  });
}

/** Without a recorder of its own a control plane has no gateway either: sessions are those of other processes. */
function endedSessions({ recordings, config }: ControlPlaneOptions): "all" | "own" | "none" {
  if (recordings === null) return "none";
  return config.controlPlane.nodes === null ? "all" : "own";
}

async function startNodes(
  options: ControlPlaneOptions,
  parts: Parts,
  started: Started,
): Promise<(NodesServer & { readonly joinTokens: JoinTokensAdmin }) | undefined> {
  const { config, limits, clock, random, log } = options;
  const { nodes: listen, lease, workloads } = config.controlPlane;
  if (listen === null) return undefined;
  const { db } = parts.store;
  const { handlers, joinTokens } = createEnrolment({ db, authority: parts.authority, clock, random, limits, log, workloads });
  const enrolment = implement(EnrolmentService, countingEnrolments(handlers, parts.metrics), null);
  const server = await startNodesServer({
    ...parts,
    onRejected: () => parts.metrics.snapshotRejected(),
    db,
    listen,
    lease,
    enrolment,
    limits,
    clock,
    random,
    log,
  });
  started.add("server", () => server.close());
  return { ...server, joinTokens };
}

function nodesOf(nodes: NodesServer | undefined): NodesServer {
  if (nodes !== undefined) return nodes;
  throw new GatewayError("node_unreachable", "No gateway and no recorder is part of this process, and none may join.", {
    hint: "Set controlPlane.nodes.listen in the configuration and start it again.",
  });
}

function recordingsOf(nodes: NodesServer | undefined): RecordingReader {
  return {
    replay: (sessionId) => nodesOf(nodes).recordings.replay(sessionId),
    verify: async (sessionId) => await nodesOf(nodes).recordings.verify(sessionId),
  };
}

/** Gateways elsewhere check the development issuer by the authorities' text, which changes with them. Returns how to stop. */
function keepDevelopment(
  development: { readonly settings: ApplyRequest["development"] },
  { authority, publisher }: Parts,
  { log }: ControlPlaneOptions,
): () => void {
  return authority.onChange(() => {
    const { settings } = development;
    if (settings?.provider == null) return;
    publisher
      .apply({ files: [], origin: "apply", author: "certificate authority", development: settings })
      .catch((error: unknown) => log.error({ err: error }, "the development issuer's authorities could not be published"));
  });
}
