/** Asks a connected gateway what it would decide. Any will do: all enforce the same snapshot. Never waits longer than its deadline. */
import { GatewayError } from "@sluice/core/errors.ts";
import type { Random } from "@sluice/core/random.ts";
import type { ExplainAnswer } from "@sluice/proto/sluice/control/v1/control_pb.ts";
import type { DecisionExplainer } from "@sluice/rpc/explain.ts";
import { fromFault } from "@sluice/rpc/fault.ts";
import type { ConnectedNode } from "./connected-node.ts";

export interface RemoteExplainer extends DecisionExplainer {
  answered(node: ConnectedNode, answer: ExplainAnswer): void;
  /** Its questions are not answered any more. */
  lost(node: ConnectedNode): void;
}

interface Question {
  readonly node: ConnectedNode;
  resolve(decision: Readonly<Record<string, unknown>>): void;
  reject(error: GatewayError): void;
}

/** Longer than a first read of a catalog. */
const DEADLINE_MS = 15_000;
/** Questions under way; each may cost a gateway a parse. */
const QUESTIONS_MAX = 256;

export function createRemoteExplainer(
  nodes: () => Iterable<ConnectedNode>,
  random: Random,
  deadlineMs: number = DEADLINE_MS,
): RemoteExplainer {
  const questions = new Map<string, Question>();
  let turn = 0;
  const nextGateway = (): ConnectedNode => {
    const all = [...nodes()].filter(({ certificate, outbox }) => certificate.role === "gateway" && !outbox.ended);
    const serving = all.filter(({ status }) => !status.draining);
    const pool = serving.length > 0 ? serving : all;
    const gateway = pool[turn++ % Math.max(pool.length, 1)];
    if (gateway !== undefined) return gateway;
    throw new GatewayError("analysis_unavailable", "No gateway is connected that could say what it would decide.", {
      hint: "`sluice nodes list` shows which gateways are away.",
    });
  };
  return {
    explain: async (request) => {
      if (questions.size >= QUESTIONS_MAX) {
        throw new GatewayError("analysis_unavailable", "Too many explanations are under way.", {
          hint: "Try again in a moment.",
        });
      }
      const node = nextGateway();
      const id = Buffer.from(random.bytes(16)).toString("base64url");
      const answer = new Promise<Readonly<Record<string, unknown>>>((resolve, reject) => {
        questions.set(id, { node, resolve, reject });
      });
      const timer = setTimeout(() => {
        questions
          .get(id)
          ?.reject(new GatewayError("analysis_unavailable", "The gateway did not answer in time.", { hint: "Try again." }));
      }, deadlineMs);
      try {
        const sent = node.outbox.command({ case: "explain", value: { requestId: id, request: JSON.stringify(request) } });
        if (!sent) throw new GatewayError("analysis_unavailable", "The gateway does not take any more questions.");
        return await answer;
      } finally {
        clearTimeout(timer);
        questions.delete(id);
      }
    },
    answered: (node, { requestId, outcome }) => {
      const question = questions.get(requestId);
      if (question?.node !== node) return; // late, or not its question
      if (outcome.case === "fault") question.reject(fromFault(outcome.value));
      else if (outcome.case === "decision") answerWith(question, outcome.value);
      else
        question.reject(new GatewayError("internal", "The gateway gave an answer that this control plane does not understand."));
    },
    lost: (node) => {
      for (const question of questions.values()) {
        if (question.node !== node) continue;
        question.reject(
          new GatewayError("analysis_unavailable", "The gateway went away before it answered.", { hint: "Try again." }),
        );
      }
    },
  };
}

function answerWith(question: Question, text: string): void {
  try {
    const decision: unknown = JSON.parse(text);
    if (typeof decision !== "object" || decision === null || Array.isArray(decision)) throw new Error("a decision is an object");
    question.resolve(decision as Readonly<Record<string, unknown>>); // an object by the check above
  } catch (cause) {
    question.reject(new GatewayError("internal", "The gateway's answer is no decision.", { cause }));
  }
}
