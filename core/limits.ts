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
  /** A catalog is read again after this time even when no change was seen. */
  readonly catalogRefreshMs: number;
  /** Prepared statements and portals of one session. */
  readonly preparedStatementsMax: number;
  readonly portalsMax: number;
  /** Requests a caller may have in flight in one session before its socket is no longer read. */
  readonly pipelineDepthMax: number;
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
  /** Bytes buffered towards a slow reader before the other side is no longer read. */
  readonly outboundBufferBytesMax: number;
  /** Running sessions may finish this long after SIGTERM. */
  readonly drainTimeoutMs: number;
  /** Spool on disk; full means no. */
  readonly spoolBytesMax: number;
  /** One spool record. */
  readonly spoolRecordBytesMax: number;
  /** One message of the admin API. */
  readonly adminBodyBytesMax: number;
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
  catalogRefreshMs: 30_000,
  preparedStatementsMax: 4_096,
  portalsMax: 1_024,
  pipelineDepthMax: 4_096,
  authenticationTimeoutMs: 15_000,
  unauthenticatedMax: 512,
  unauthenticatedPerAddressMax: 128,
  sessionsMax: 10_000,
  sessionsPerAddressMax: 5_000,
  sessionsPerPrincipalMax: 1_000,
  targetConnectTimeoutMs: 10_000,
  outboundBufferBytesMax: 1 * MiB,
  drainTimeoutMs: 10_000,
  spoolBytesMax: 1024 * MiB,
  spoolRecordBytesMax: 17 * MiB,
  adminBodyBytesMax: 8 * MiB,
};
