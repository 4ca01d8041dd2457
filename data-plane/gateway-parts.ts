/** What a gateway's connections share. Made once by `gateway.ts`, passed down, never global. */
import type { Clock } from "@sluice/core/clock.ts";
import type { Limits } from "@sluice/core/limits.ts";
import type { Random } from "@sluice/core/random.ts";
import type { Spool } from "@sluice/events/spool.ts";
import type { AgentLink } from "@sluice/rpc/agent-link.ts";
import type { GatewayMetrics } from "@sluice/telemetry/gateway-metrics.ts";
import type { Traces } from "@sluice/telemetry/session-trace.ts";
import type { Logger } from "pino";
import type { Analyser } from "./analysis/analyser.ts";
import type { TokenVerifier } from "./identity/token-verifier.ts";
import type { Admission } from "./listen/admission.ts";
import type { ServerCertificate } from "./listen/certificate.ts";
import type { PolicyStore } from "./policy-watch/policy-store.ts";
import type { CancelKeys } from "./session/cancel-keys.ts";
import type { LiveSessions } from "./session/live-sessions.ts";
import type { Catalogs } from "./upstream/catalogs.ts";

export interface GatewayParts {
  readonly agentLink: AgentLink;
  readonly spool: Spool;
  readonly policies: PolicyStore;
  readonly catalogs: Catalogs;
  readonly analyser: Analyser;
  readonly verifier: TokenVerifier;
  readonly admission: Admission;
  readonly cancelKeys: CancelKeys;
  readonly sessions: LiveSessions;
  /** Null only where the configuration says plain text on loopback. */
  readonly certificate: ServerCertificate | null;
  readonly limits: Limits;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly draining: () => boolean;
  readonly metrics: GatewayMetrics;
  readonly traces: Traces;
}
