import { defineConfig } from "vitest/config";

/** Two projects: `unit` beside the code, `e2e` under test/ with real servers (two files at a time: most of their time is waiting). */
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "unit",
          include: [
            "{core,inspect,manifest,rpc,events,telemetry,control-plane,data-plane,agent,recorder,cli,tools,bench}/**/*.test.ts",
          ],
          testTimeout: 20_000,
          maxWorkers: 2,
          // Two test files share two cores: what is polled for comes, but not always within the second that is the default.
          expect: { poll: { timeout: 5_000 } },
        },
      },
      {
        test: {
          name: "e2e",
          include: ["test/**/*.test.ts"],
          testTimeout: 60_000,
          expect: { poll: { timeout: 15_000 } },
          // Up to eleven processes on two cores: a deadline may be missed once. A test that needed its second try is named in the report.
          retry: 1,
          hookTimeout: 120_000,
          maxWorkers: 2,
        },
      },
    ],
  },
});
