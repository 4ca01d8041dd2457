/**
 * Every bound of the product: a name with its unit, a default, a reason.
 * Planes take a `Limits` value; nothing reads a bound from anywhere else.
 */
export interface Limits {
  /** Startup packet. libpq's own bound; strangers must not make us hold more. */
  readonly startupBytesMax: number;
  /** A token as password. Real ones are 1 to 8 KiB; above this it is an attack or a mistake. */
  readonly tokenBytesMax: number;
  /** A single control frame from a caller (Parse, Bind, Query …). One megabyte of SQL plus parameters fits. */
  readonly callerFrameBytesMax: number;
  /** A single control frame from a target (RowDescription, ErrorResponse …). 1,600 columns fit many times. */
  readonly targetFrameBytesMax: number;
  /** One row that must be held whole because a column of it is edited. Larger rows end the statement. */
  readonly editedRowBytesMax: number;
  /** Statement text; longer is refused before parsing. */
  readonly statementBytesMax: number;
  /** Texts up to this size are parsed in the shared worker; longer or deeper ones in a disposable worker first. */
  readonly trustedStatementBytesMax: number;
  /** Nesting of comments and brackets counted before parsing (comment bombs are quadratic in the parser). */
  readonly statementDepthMax: number;
  /** Deadline of one analysis. Ordinary ones take under 1 ms. */
  readonly analysisTimeoutMs: number;
  /** Analyses that may wait for the worker; more are refused. */
  readonly analysisQueueMax: number;
  /** The same of one principal, whose sessions take one turn together: nobody fills the queue alone. */
  readonly analysisQueuePerPrincipalMax: number;
  /** Bytes of cached analyses in one gateway. */
  readonly analysisCacheBytesMax: number;
  /** First statements wait this long for the catalog. */
  readonly catalogWaitMs: number;
  /** One read of a catalog; ten thousand tables take a few seconds. */
  readonly catalogReadTimeoutMs: number;
  /** Unpacking, indexing and labelling one catalog in the worker. Ten thousand tables take about a second. */
  readonly catalogLoadTimeoutMs: number;
  /** A catalog is read again after this time even when no change was seen. */
  readonly catalogRefreshMs: number;
  /** A watched database is looked at for DDL past the gateway this often: a query of some 50 ms for ten thousand tables. */
  readonly catalogProbeMs: number;
  /** Share of the time that a look may take of the target's: a slower one is taken less often. Percent. */
  readonly catalogProbePercentMax: number;
  /** A watched catalog is read whole again after this time, for what no look shows: estimated numbers of rows. */
  readonly catalogWatchedRefreshMs: number;
  /** Columns of one resource whose label survives a rename; 14 bytes each in a snapshot. Ten thousand tables have tens of thousands. */
  readonly bindingsPerResourceMax: number;
  /** A gateway says again what its labelled columns are called now, this often: a column that is gone shows. */
  readonly bindingsReportMs: number;
  /** The label of a column ends when the column has been gone for this time: a database may be restored or failed over meanwhile. */
  readonly bindingsGoneMs: number;
  /** Prepared statements and portals of one session. */
  readonly preparedStatementsMax: number;
  readonly portalsMax: number;
  /** Requests a caller may have in flight in one session before its socket is no longer read. */
  readonly pipelineDepthMax: number;
  /** A session outlives its token by this at most, so that a statement at the edge is not torn. */
  readonly tokenGraceMs: number;
  /** How far an identity provider's clock may be from ours when exp and nbf are checked. */
  readonly tokenClockToleranceMs: number;
  /** Verified tokens remembered by digest, so that a reconnect costs no signature check. About 2 KiB each. */
  readonly verifiedTokensMax: number;
  /** One request to an identity provider; two of them (discovery, keys) fit into the authentication deadline. */
  readonly keySetTimeoutMs: number;
  /** A discovery document or key set. Real ones are a few KiB. */
  readonly keySetBytesMax: number;
  /** Signing keys are fetched again after this time, so that a withdrawn key stops being accepted. */
  readonly keySetRefreshMs: number;
  /** Keys still serve this long while their provider does not answer. */
  readonly keySetStaleMs: number;
  /** Tokens naming an unknown key cause one fetch per this time at most: strangers must not make us a load generator. */
  readonly keySetCooldownMs: number;
  /** A failed fetch is not tried again before this time. */
  readonly keySetRetryMs: number;
  /** From accept to the end of authentication. */
  readonly authenticationTimeoutMs: number;
  /** Connections that have not authenticated yet, per gateway and per address. */
  readonly unauthenticatedMax: number;
  readonly unauthenticatedPerAddressMax: number;
  /** Sessions per gateway, address and principal. */
  readonly sessionsMax: number;
  readonly sessionsPerAddressMax: number;
  readonly sessionsPerPrincipalMax: number;
  /** Connecting and authenticating at the target. */
  readonly targetConnectTimeoutMs: number;
  /** Delivering a cancel request to the target: a new connection, one message, its close. */
  readonly targetCancelTimeoutMs: number;
  /** Bringing a target connection back to its first state between two sessions, and giving it to the next: one round trip each. */
  readonly targetResetTimeoutMs: number;
  /** One message of a target before it is authenticated. Real ones are under 2 KiB. */
  readonly targetLoginFrameBytesMax: number;
  /** SCRAM iterations a target may ask for: a hostile one must not buy seconds of our processor. PostgreSQL's default is 4,096. */
  readonly scramIterationsMax: number;
  /** Derived SCRAM keys remembered by an agent, so that a login costs no key derivation. About 300 bytes each. */
  readonly scramKeysMax: number;
  /** A secret from a variable or file. Real ones are under 1 KiB; more is the wrong file. */
  readonly secretBytesMax: number;
  /** One request to Vault or the Kubernetes API. A login and a read fit into the target's connect deadline. */
  readonly secretRequestTimeoutMs: number;
  /** An answer of Vault or the Kubernetes API, whose secrets have at most 1 MiB before base64. */
  readonly secretAnswerBytesMax: number;
  /** How long a secret that was fetched serves: rotation is seen within it, and a storm of logins is one request. */
  readonly secretCacheMs: number;
  /** Secrets kept for that time. More than an agent has targets; the oldest go first. */
  readonly secretCacheEntriesMax: number;
  /** A secret that a target refused is fetched afresh at most once in this time. */
  readonly secretRefetchMs: number;
  /** The same for a leased account: each is a role that the target keeps until its lease ends. */
  readonly secretLeaseRefetchMs: number;
  /** Rows and bytes of one catalog read. A hundred thousand tables fit; more is a target that lies. */
  readonly catalogRowsMax: number;
  readonly catalogBytesMax: number;
  /** How long a catalog read waits for a view that is being replaced before it goes without its definition. */
  readonly catalogLockTimeoutMs: number;
  /** Bytes buffered towards a slow reader before the other side is no longer read. */
  readonly outboundBufferBytesMax: number;
  /** A policy snapshot as JSON. Ten thousand rules take about 5 MiB; more than this is not a policy. */
  readonly snapshotBytesMax: number;
  /** Opens that a gateway has announced to an agent and not bound yet; more is a gateway that does not stop. */
  readonly linkOpensMax: number;
  /** Catalogs that an agent reads for one gateway at the same time; others wait. Each may take memory of a whole catalog. */
  readonly linkCatalogsMax: number;
  /** An agent measures how far each gateway is after this time, give or take a fifth. */
  readonly gatewayMeasureMs: number;
  /** One measurement of a gateway: three handshakes. Farther ones count as unreachable. */
  readonly gatewayMeasureTimeoutMs: number;
  /** A link that was made because a gateway had a caller and no agent stays this long after its last session. */
  readonly linkOnDemandMs: number;
  /** Running sessions may finish this long after SIGTERM. */
  readonly drainTimeoutMs: number;
  /** Spool on disk; full means no. */
  readonly spoolBytesMax: number;
  /** One spool record. */
  readonly spoolRecordBytesMax: number;
  /** Records waiting for the spool's disk; more means that the disk cannot keep up, and the answer is no. */
  readonly spoolQueueBytesMax: number;
  /** Durable records kept in memory so that a shipper at the spool's end need not read them back. */
  readonly spoolRecentBytesMax: number;
  /** Records of one chunk of a recording before compression: what replay holds in memory at once. */
  readonly recordingChunkBytesMax: number;
  /** Files the recorder holds open; the least recently written is closed first. */
  readonly recordingOpenFilesMax: number;
  /** Batches of a gateway that are on their way to the recorder at a time. Each is some 4 MiB, and waits for the recorder's disk. */
  readonly busBatchesInFlightMax: number;
  /** One batch on the bus, unpacked. The spool's are 4 MiB, more only with one record of the largest kind. */
  readonly busBatchBytesMax: number;
  /** A batch is waited for so long before the gateway says in its log that the recorder does not take it, and tries again. */
  readonly busReceiptTimeoutMs: number;
  /** One message of the recorder's service: at least one item of a replay, which may hold a row of the largest kind. */
  readonly recordingMessageBytesMax: number;
  /** One message of the admin API. */
  readonly adminBodyBytesMax: number;
  /** Value pattern of a classifier. Real ones have under 100; compiling a longer one costs time and memory per character. */
  readonly detectorPatternCharsMax: number;
  /** Receiving one request of the admin API. A full body over a slow line fits. */
  readonly adminRequestTimeoutMs: number;
  /** Lifetime of a token that the development issuer makes. A working week; longer ones are for real providers. */
  readonly mintedTokenTtlMsMax: number;
  /** Sessions in one answer of the admin API. */
  readonly sessionListMax: number;
  /** Values in one manifest file, aliases expanded. Ten thousand rules fit; a bomb of aliases does not. */
  readonly manifestNodesMax: number;
  /** Nesting of one manifest. Ours need eight levels. */
  readonly manifestDepthMax: number;
  /** Text of one rule's condition. Characters; people's conditions have under 500. */
  readonly conditionCharsMax: number;
  /** Patterns of `matches` kept compiled. Those written in policies are few; those made from claims must not fill the memory. */
  readonly conditionPatternsMax: number;
  /** Agents linked to one gateway. About 100 KiB each with their idle connections. */
  readonly agentLinksMax: number;
  /** From an agent's control stream to its hello: one message over a connection that stands. */
  readonly agentHelloTimeoutMs: number;
  /** A session waits this long for an agent of its resource, time to have one dial in; then it is refused. */
  readonly agentWaitMs: number;
  /** Sessions that wait for an agent or for its answer, per gateway: a storm against a slow target must not hold more. */
  readonly agentOpensMax: number;
  /** An agent that said nothing at all for this long after it was asked is passed over for another, where there is one. */
  readonly agentSilenceMs: number;
  /** An agent with older declarations gets this long to hear of the newer ones before another agent is tried. */
  readonly agentSnapshotWaitMs: number;
  /** Cancel requests under way on one agent's link. */
  readonly agentCancelsMax: number;
  /** Reads of catalogs under way on one agent's link: one for each database that it serves. */
  readonly agentCatalogsMax: number;
  /** Messages waiting for one agent's control stream; more means that it does not read, and its link ends. */
  readonly agentMessagesMax: number;
  /** One message between gateway and agent, or between gateways. Pieces of catalogs are the largest, 256 KiB. */
  readonly linkMessageBytesMax: number;
  /** Idle session connections that an agent keeps to a gateway: one for the next session, one for a second at the same time. */
  readonly warmConnectionsMin: number;
  /** Idle session connections of one agent at most; enough for 1,000 sessions a second at 30 ms of handshake. About 60 KiB each. */
  readonly warmConnectionsMax: number;
  /** A session waits this long for a connection of one agent before it tries another. Dialling takes two round trips. */
  readonly warmConnectionWaitMs: number;
  /** Idle session connections are replaced after this time, so that certificates are looked at again. */
  readonly warmConnectionAgeMsMax: number;
  /** TLS handshakes of agents under way at once: all agents come back when a gateway starts, strangers must not fill the memory. */
  readonly agentHandshakesMax: number;
  /** One TLS handshake of an agent. Three round trips around the world take under a second. */
  readonly agentHandshakeTimeoutMs: number;
  /** Cancel requests taken from one address within ten seconds: a large pool that gives up at once fits, guessing keys does not. */
  readonly cancelsPerAddressMax: number;
  /** Cancel requests passed on to other gateways, or taken from one of them, within ten seconds. */
  readonly cancelsForwardedMax: number;
  /** Passing one cancel request on to another gateway. Later, its statement is mostly over. */
  readonly cancelForwardTimeoutMs: number;
  /** Telling one other gateway of DDL. The statement waits for it: later, it is refused. */
  readonly ddlMarkTimeoutMs: number;
  /** Other gateways are told again this often while a transaction with DDL is open. */
  readonly ddlMarkRenewMs: number;
  /** A mark of DDL that is not heard of any more ends after this time; half of it without an answer ends the session. More than twice nodeGoneMs, so that a gateway that died ends no session. */
  readonly ddlMarkKeptMs: number;
  /** Transactions with DDL that another gateway may have open at a time; its further ones are refused. */
  readonly ddlMarksMax: number;
  /** One message between nodes. A snapshot of ten thousand rules is a few MiB. */
  readonly nodeMessageBytesMax: number;
  /** Connecting to another node: TCP, TLS and the first word of HTTP/2. */
  readonly nodeConnectTimeoutMs: number;
  /** A connection between nodes is asked for a sign of life this often, and given up when none comes: together, how long a half-open one lasts. */
  readonly nodeKeepaliveMs: number;
  readonly nodeKeepaliveTimeoutMs: number;
  /** Connections of other nodes that one listener holds; more are not accepted. */
  readonly nodeConnectionsMax: number;
  /** Calls and streams of one connection between nodes at a time. */
  readonly nodeCallsMax: number;
  /** One call to enrol or to renew a certificate. */
  readonly nodeEnrolTimeoutMs: number;
  /** How far a node's clock may be from the control plane's: certificates, leases and tokens all go by it. */
  readonly nodeClockToleranceMs: number;
  /** Messages and bytes waiting to be sent on one stream to a peer that does not keep up. */
  readonly nodeSendQueueMax: number;
  readonly nodeSendQueueBytesMax: number;
  /** Lifetime of a node's certificate, renewed at half. A day: a stolen one ages soon, and a control plane that is away for a night stops nobody. */
  readonly nodeCertificateMs: number;
  /** Lifetime of the key that signs snapshots, replaced at half. A month: gateways verify what they kept on disk with it. */
  readonly snapshotSignerMs: number;
  /** Lifetime of a join token. A week; most are used within minutes. */
  readonly joinTokenTtlMsMax: number;
  /** Enrolments and renewals in work at a time on one control plane, and those that wait: strangers may knock there. */
  readonly enrolmentsInFlightMax: number;
  readonly enrolmentsWaitingMax: number;
  /** A certificate request. Real ones have under 500 bytes. */
  readonly certificateRequestBytesMax: number;
  /** One call of the program that wraps and unwraps the store's keys. */
  readonly keyCommandTimeoutMs: number;
  /** One query of the control plane to its store. None takes seconds; one that does is stuck, and its connection is given up. */
  readonly storeQueryTimeoutMs: number;
  /** Nodes whose certificate ended are listed this long. */
  readonly nodeForgottenMs: number;
  /** The control plane speaks on each control stream this often; a stream that is silent for three of these is dead. */
  readonly nodeHeartbeatMs: number;
  /** How often what nodes report is written to the store, for the other control planes. */
  readonly nodeReportMs: number;
  /** A node that takes nothing, or says nothing, for this long loses its control stream and may come back. */
  readonly nodeStuckMs: number;
  /** A node that was away this long is left out of the directory and its sessions count as lost. Restarts are shorter. */
  readonly nodeGoneMs: number;
}

const KiB = 1024;
const MiB = 1024 * KiB;

export const defaultLimits: Limits = {
  startupBytesMax: 10_000,
  tokenBytesMax: 16 * KiB,
  callerFrameBytesMax: 16 * MiB,
  targetFrameBytesMax: 16 * MiB,
  editedRowBytesMax: 16 * MiB,
  statementBytesMax: 2 * MiB,
  trustedStatementBytesMax: 64 * KiB,
  statementDepthMax: 256,
  analysisTimeoutMs: 5_000,
  analysisQueueMax: 256,
  analysisQueuePerPrincipalMax: 64,
  analysisCacheBytesMax: 64 * MiB,
  catalogWaitMs: 10_000,
  catalogReadTimeoutMs: 30_000,
  catalogLoadTimeoutMs: 20_000,
  catalogRefreshMs: 30_000,
  catalogProbeMs: 5_000,
  catalogProbePercentMax: 5,
  catalogWatchedRefreshMs: 10 * 60_000,
  bindingsPerResourceMax: 100_000,
  bindingsReportMs: 60 * 60_000,
  bindingsGoneMs: 7 * 24 * 3_600_000,
  preparedStatementsMax: 4_096,
  portalsMax: 1_024,
  pipelineDepthMax: 4_096,
  tokenGraceMs: 60_000,
  tokenClockToleranceMs: 30_000,
  verifiedTokensMax: 10_000,
  keySetTimeoutMs: 5_000,
  keySetBytesMax: 1 * MiB,
  keySetRefreshMs: 10 * 60_000,
  keySetStaleMs: 60 * 60_000,
  keySetCooldownMs: 10_000,
  keySetRetryMs: 1_000,
  authenticationTimeoutMs: 15_000,
  unauthenticatedMax: 512,
  unauthenticatedPerAddressMax: 128,
  sessionsMax: 10_000,
  sessionsPerAddressMax: 5_000,
  sessionsPerPrincipalMax: 1_000,
  targetConnectTimeoutMs: 10_000,
  targetCancelTimeoutMs: 5_000,
  targetResetTimeoutMs: 3_000,
  targetLoginFrameBytesMax: 64 * KiB,
  scramIterationsMax: 1_000_000,
  scramKeysMax: 1_024,
  secretBytesMax: 64 * KiB,
  secretRequestTimeoutMs: 4_000,
  secretAnswerBytesMax: 4 * MiB,
  secretCacheMs: 5_000,
  secretCacheEntriesMax: 10_000,
  secretRefetchMs: 1_000,
  secretLeaseRefetchMs: 30_000,
  catalogRowsMax: 2_000_000,
  catalogBytesMax: 512 * MiB,
  catalogLockTimeoutMs: 200,
  outboundBufferBytesMax: 1 * MiB,
  snapshotBytesMax: 64 * MiB,
  linkOpensMax: 1_024,
  linkCatalogsMax: 4,
  gatewayMeasureMs: 30_000,
  gatewayMeasureTimeoutMs: 5_000,
  linkOnDemandMs: 5 * 60_000,
  drainTimeoutMs: 10_000,
  spoolBytesMax: 1024 * MiB,
  spoolRecordBytesMax: 17 * MiB,
  spoolQueueBytesMax: 64 * MiB,
  spoolRecentBytesMax: 16 * MiB,
  recordingChunkBytesMax: 1 * MiB,
  recordingOpenFilesMax: 256,
  busBatchesInFlightMax: 4,
  busBatchBytesMax: 32 * MiB,
  busReceiptTimeoutMs: 15_000,
  recordingMessageBytesMax: 64 * MiB,
  adminBodyBytesMax: 8 * MiB,
  detectorPatternCharsMax: 1_000,
  adminRequestTimeoutMs: 60_000,
  mintedTokenTtlMsMax: 7 * 24 * 3_600_000,
  sessionListMax: 10_000,
  manifestNodesMax: 200_000,
  manifestDepthMax: 32,
  conditionCharsMax: 4_096,
  conditionPatternsMax: 256,
  agentLinksMax: 4_096,
  agentHelloTimeoutMs: 10_000,
  agentWaitMs: 5_000,
  agentOpensMax: 4_096,
  agentSilenceMs: 3_000,
  agentSnapshotWaitMs: 1_000,
  agentCancelsMax: 256,
  agentCatalogsMax: 256,
  agentMessagesMax: 4_096,
  linkMessageBytesMax: 1 * MiB,
  warmConnectionsMin: 2,
  warmConnectionsMax: 64,
  warmConnectionWaitMs: 2_000,
  warmConnectionAgeMsMax: 10 * 60_000,
  agentHandshakesMax: 1_024,
  agentHandshakeTimeoutMs: 10_000,
  cancelsPerAddressMax: 1_000,
  cancelsForwardedMax: 2_000,
  cancelForwardTimeoutMs: 2_000,
  ddlMarkTimeoutMs: 1_000,
  ddlMarkRenewMs: 5_000,
  ddlMarkKeptMs: 180_000,
  ddlMarksMax: 1_024,
  nodeMessageBytesMax: 64 * MiB,
  nodeConnectTimeoutMs: 10_000,
  nodeKeepaliveMs: 10_000,
  nodeKeepaliveTimeoutMs: 10_000,
  nodeConnectionsMax: 4_096,
  nodeCallsMax: 256,
  nodeEnrolTimeoutMs: 15_000,
  nodeClockToleranceMs: 5 * 60_000,
  nodeSendQueueMax: 1_024,
  nodeSendQueueBytesMax: 16 * MiB,
  nodeCertificateMs: 24 * 3_600_000,
  snapshotSignerMs: 30 * 24 * 3_600_000,
  joinTokenTtlMsMax: 7 * 24 * 3_600_000,
  enrolmentsInFlightMax: 16,
  enrolmentsWaitingMax: 512,
  certificateRequestBytesMax: 8 * KiB,
  keyCommandTimeoutMs: 10_000,
  storeQueryTimeoutMs: 30_000,
  nodeForgottenMs: 7 * 24 * 3_600_000,
  nodeHeartbeatMs: 1_000,
  nodeReportMs: 4_000,
  nodeStuckMs: 15_000,
  nodeGoneMs: 60_000,
};
