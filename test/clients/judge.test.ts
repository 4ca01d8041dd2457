/** The judge of client programs can find fault: other values, unknown features, failures, protected values, silence. */
import { expect, it } from "vitest";
import { planted } from "../support/orders-schema.ts";
import { judge } from "./run-program.ts";

const line = (feature: string, value: unknown): string => `${JSON.stringify({ feature, value })}\n`;

it("passes what is expected of each caller and names everything else", () => {
  const whole = line("parameters", [1, "customer 1", planted[0]!.ssn]); // three are planted
  const masked = line("parameters", [1, "customer 1", "***-**-9382"]);
  expect(judge(0, line("version", "1.2") + whole, "", "all")).toEqual({ version: "1.2", features: { parameters: "ok" } });
  expect(judge(0, masked, "", "masked").features).toEqual({ parameters: "ok" });
  expect(judge(0, masked, "", "all").features["parameters"]).toMatch(/^saw /);
  expect(judge(0, whole, "", "masked").features["secrets"]).toBe("a protected value was printed");
  expect(judge(0, masked, planted[0]!.email, "masked").features["secrets"]).toBe("a protected value was printed");
  expect(judge(0, line("other", 1), "", "all").features["other"]).toBe("nobody said what is expected");
  expect(judge(0, '{"feature":"connect","error":"no"}\n', "", "all").features["connect"]).toBe("failed: no");
  expect(judge(1, line("connect", 1), "it broke", "all").features["end"]).toBe("ended with status 1: it broke");
  expect(judge(0, "", "", "all").features["end"]).toBe("printed nothing");
});
