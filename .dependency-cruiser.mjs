/**
 * Imports run one way. `core` and `proto` know nobody; `inspect`, `manifest`, `telemetry` know `core`; `rpc` knows `core` and
 * `proto`, `events` these and `rpc` (identities of nodes); planes know the libraries, never each other; only `cli` knows planes. `npm test` runs this on the tree and on a seeded violation.
 */
const only = (name, from, allowed) => ({
  name,
  severity: "error",
  from: { path: from, pathNot: "\\.test\\.ts$" },
  to: {
    path: "^(core|proto|inspect|manifest|rpc|events|telemetry|control-plane|data-plane|agent|recorder|cli|test|bench|tools)/",
    pathNot: allowed,
  },
});
const planes = ["control-plane", "data-plane", "agent", "recorder"];

export default {
  forbidden: [
    { name: "no-cycles", severity: "error", from: {}, to: { circular: true } },
    only("core-knows-nobody", "^core/", "^core/"),
    only("wire-knows-core-and-itself", "^inspect/wire/", "^(core|inspect/wire)/"),
    only("sql-knows-core-and-itself", "^inspect/sql/", "^(core|inspect/sql)/"),
    only("dlp-knows-core-and-itself", "^inspect/dlp/", "^(core|inspect/dlp)/"),
    only("policy-knows-the-models", "^inspect/policy/", "^(core|inspect/policy|inspect/sql/model\\.ts|inspect/dlp)"),
    {
      name: "wire-siblings",
      severity: "error",
      from: { path: "^inspect/wire/([^/]+)/" },
      to: { path: "^inspect/wire/[^/]+/", pathNot: "^inspect/wire/$1/" },
    },
    only("manifest-knows-core", "^manifest/", "^(core|manifest)/"),
    only("rpc-knows-core", "^rpc/", "^(core|rpc|proto)/"),
    only("proto-knows-nobody", "^proto/", "^proto/"),
    only("telemetry-knows-core", "^telemetry/", "^(core|telemetry)/"),
    only("events-knows-core-and-rpc", "^events/", "^(core|events|proto|rpc)/"),
    ...planes.map((plane) =>
      only(`${plane}-knows-libraries`, `^${plane}/`, `^(core|inspect|manifest|rpc|events|telemetry|proto|${plane})/`),
    ),
    only(
      "cli-knows-planes",
      "^cli/",
      "^(core|inspect|manifest|rpc|events|telemetry|proto|control-plane|data-plane|agent|recorder|cli)/",
    ),
    {
      name: "pure-core",
      comment: "the engine takes bytes and values and returns values: no sockets, files, processes, clocks",
      severity: "error",
      from: { path: "^(inspect|manifest)/", pathNot: "\\.test\\.ts$" },
      to: { path: "^(node:)?(net|tls|fs|fs/promises|child_process|worker_threads|http|https|dgram|timers|os|process)$" },
    },
  ],
  options: {
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    doNotFollow: { path: "node_modules" },
    exclude: { path: "(^|/)node_modules/" },
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["import", "node", "default"],
      extensions: [".ts", ".mjs", ".js"],
    },
  },
};
