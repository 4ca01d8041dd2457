/** What a control plane counts, put around its parts: these need not know of metrics. */
import type { EnrolmentService } from "@sluice/proto/sluice/enrolment/v1/enrolment_pb.ts";
import type { ServiceHandlers } from "@sluice/rpc/grpc.ts";
import type { NodeRole } from "@sluice/rpc/nodes.ts";
import { roleFromProto } from "@sluice/rpc/trust.ts";
import type { Meter } from "@sluice/telemetry/meter.ts";
import { type ControlPlaneMetrics, createControlPlaneMetrics, noControlPlaneMetrics } from "@sluice/telemetry/plane-metrics.ts";
import type { Publisher } from "./publish/publisher.ts";

export function openMetrics(
  meter: Meter | undefined,
  {
    publisher,
    connected,
  }: {
    readonly publisher: Pick<Publisher, "feed">;
    readonly connected: ReadonlyMap<string, { readonly certificate: { readonly role: NodeRole } }>;
  },
): ControlPlaneMetrics {
  if (meter === undefined) return noControlPlaneMetrics;
  return createControlPlaneMetrics(meter, {
    snapshotSequence: () => Number(publisher.feed.newest?.sequence ?? 0),
    nodes: () => {
      const roles = new Map<NodeRole, number>([
        ["gateway", 0],
        ["agent", 0],
        ["recorder", 0],
      ]);
      for (const { certificate } of connected.values()) roles.set(certificate.role, (roles.get(certificate.role) ?? 0) + 1);
      return roles;
    },
  });
}

/** A change of the development issuer's settings counts too: it is published the same way. */
export function countingApplies(publisher: Publisher, metrics: ControlPlaneMetrics): Publisher {
  return {
    ...publisher,
    apply: async (request) => {
      const result = await publisher.apply(request);
      metrics.applied(result.ok ? "taken" : "refused");
      return result;
    },
  };
}

export function countingEnrolments(
  handlers: ServiceHandlers<typeof EnrolmentService>,
  metrics: ControlPlaneMetrics,
): ServiceHandlers<typeof EnrolmentService> {
  const counted = async <Answer>(role: NodeRole | undefined, work: Promise<Answer>): Promise<Answer> => {
    try {
      const answer = await work;
      metrics.enrolled(role ?? "unknown", "granted");
      return answer;
    } catch (error) {
      metrics.enrolled(role ?? "unknown", "refused");
      throw error;
    }
  };
  return {
    enrol: (request, context) => counted(roleFromProto(request.role), Promise.resolve(handlers.enrol(request, context))),
    renew: (request, context) => counted(context.peer?.role, Promise.resolve(handlers.renew(request, context))),
  };
}
