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
  /** Bytes of cached analyses in one gateway. */
  readonly analysisCacheBytesMax: number;
  /** First statements wait this long for the catalog. */
  readonly catalogWaitMs: number;
  /** One read of a catalog; ten thousand tables take a few seconds. */
  readonly catalogReadTimeoutMs: number;
  /** A catalog is read again after this time even when no change was seen. */
  readonly catalogRefreshMs: number;
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
  /** One message of a target before it is authenticated. Real ones are under 2 KiB. */
  readonly targetLoginFrameBytesMax: number;
  /** SCRAM iterations a target may ask for: a hostile one must not buy seconds of our processor. PostgreSQL's default is 4,096. */
  readonly scramIterationsMax: number;
  /** Derived SCRAM keys remembered by an agent, so that a login costs no key derivation. About 300 bytes each. */
  readonly scramKeysMax: number;
  /** A secret from a variable or file. Real ones are under 1 KiB; more is the wrong file. */
  readonly secretBytesMax: number;
  /** Rows and bytes of one catalog read. A hundred thousand tables fit; more is a target that lies. */
  readonly catalogRowsMax: number;
  readonly catalogBytesMax: number;
  /** How long a catalog read waits for a view that is being replaced before it goes without its definition. */
  readonly catalogLockTimeoutMs: number;
  /** Bytes buffered towards a slow reader before the other side is no longer read. */
  readonly outboundBufferBytesMax: number;
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
  analysisCacheBytesMax: 64 * MiB,
  catalogWaitMs: 10_000,
  catalogReadTimeoutMs: 30_000,
  catalogRefreshMs: 30_000,
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
  targetLoginFrameBytesMax: 64 * KiB,
  scramIterationsMax: 1_000_000,
  scramKeysMax: 1_024,
  secretBytesMax: 64 * KiB,
  catalogRowsMax: 2_000_000,
  catalogBytesMax: 512 * MiB,
  catalogLockTimeoutMs: 200,
  outboundBufferBytesMax: 1 * MiB,
  drainTimeoutMs: 10_000,
  spoolBytesMax: 1024 * MiB,
  spoolRecordBytesMax: 17 * MiB,
  spoolQueueBytesMax: 64 * MiB,
  spoolRecentBytesMax: 16 * MiB,
  recordingChunkBytesMax: 1 * MiB,
  recordingOpenFilesMax: 256,
  adminBodyBytesMax: 8 * MiB,
  detectorPatternCharsMax: 1_000,
  adminRequestTimeoutMs: 60_000,
  mintedTokenTtlMsMax: 7 * 24 * 3_600_000,
  sessionListMax: 10_000,
  manifestNodesMax: 200_000,
  manifestDepthMax: 32,
  conditionCharsMax: 4_096,
  conditionPatternsMax: 256,
};
