/** What `sluice doctor` makes of what an installation says of itself: pure, so that each finding can be shown by a test. */
import { isRecord } from "../admin-client.ts";
import { formatTime, visible } from "../output/table.ts";

export interface Finding {
  readonly name: string;
  /** False: to be mended, and the text says how. */
  readonly ok: boolean;
  readonly text: string;
}

type Row = Readonly<Record<string, unknown>>;

/** Nodes renew at half of a certificate's lifetime; with less than this share of it left, that failed more than once. */
const CERTIFICATE_LEFT_MIN = 0.4;
/** Agents refuse, and tokens are refused, with clocks far apart; this much shows before that. Milliseconds. */
const CLOCK_TOLERANCE_MS = 10_000;
/** Callers and agents elsewhere need time to get a new authority's file. Milliseconds. */
const AUTHORITY_LEFT_MS = 90 * 24 * 3_600_000;

/** `nodes` as `NodeService/List` answers. */
export function judgeNodes(nodes: readonly Row[], nowMs: number): readonly Finding[] {
  const members = nodes.filter(({ state }) => state !== "revoked");
  if (members.length === 0) return [{ name: "nodes", ok: true, text: "none have joined: all planes are in this process" }];
  const here = members.filter(({ state }) => state !== "away");
  return [
    { name: "nodes", ok: true, text: `connected: ${countRoles(here)}` },
    ...members.filter(({ state }) => state === "away").map((node) => awayFinding(node)),
    ...missingRoles(here),
    ...here.flatMap((node) => [...snapshotFindings(node, here), ...certificateFindings(node, nowMs)]),
    ...linkFindings(here),
  ];
}

/** True when a look a moment later may show less: nodes take a new snapshot one after the other. */
export function mayPass(nodes: readonly Row[]): boolean {
  const here = nodes.filter(({ state }) => state === "connected");
  return here.some((node) => enforces(node) && node["rejected"] === null && sequenceOf(node) < newestOf(here));
}

function awayFinding(node: Row): Finding {
  const since = node["lastSeenAt"] === null ? "has never connected" : `is away since ${formatTime(node["lastSeenAt"])}`;
  const advice = `start it or look at its log; \`sluice nodes revoke ${plain(node["role"])} ${plain(node["name"])}\` if it is gone for good`;
  return { name: titleOf(node), ok: false, text: `${since}: ${advice}` };
}

/** An installation whose planes are apart does nothing without one of each. */
function missingRoles(here: readonly Row[]): readonly Finding[] {
  return ["gateway", "agent", "recorder"]
    .filter((role) => !here.some((node) => node["role"] === role))
    .map((role) => {
      const make = `\`sluice nodes join-token create --role ${role}\` makes a token for one`;
      return { name: role, ok: false, text: `none is connected, and nothing works without: ${make}` };
    });
}

function snapshotFindings(node: Row, here: readonly Row[]): readonly Finding[] {
  const { rejected } = node;
  const name = titleOf(node);
  if (isRecord(rejected)) {
    const text = `refused the policy snapshot ${plain(rejected["sequence"])} (${plain(rejected["message"])}) and goes on with ${shownSequence(node)}: upgrade it, or take back what it cannot`;
    return [{ name, ok: false, text }];
  }
  if (!enforces(node) || sequenceOf(node) >= newestOf(here)) return [];
  const text = `enforces the policy snapshot ${shownSequence(node)}, others ${newestOf(here)}: look at its log and its connection to the control planes`;
  return [{ name, ok: false, text }];
}

function certificateFindings(node: Row, nowMs: number): readonly Finding[] {
  const name = titleOf(node);
  const issuedMs = timeOf(node["certificateIssuedAt"]);
  const expiresMs = timeOf(node["certificateExpiresAt"]);
  if (expiresMs === undefined) return [];
  const until = formatTime(node["certificateExpiresAt"]);
  if (expiresMs <= nowMs)
    return [{ name, ok: false, text: `its certificate ended ${until}: it must join again with a join token for this name` }];
  if (issuedMs === undefined || expiresMs - nowMs >= (expiresMs - issuedMs) * CERTIFICATE_LEFT_MIN) return [];
  return [{ name, ok: false, text: `has not renewed its certificate, which ends ${until}: look at its log` }];
}

/** Agents dial gateways, the nearest few: one of them must have somebody. */
function linkFindings(here: readonly Row[]): readonly Finding[] {
  const isLinked = here.some(({ role, links }) => role === "gateway" && Array.isArray(links) && links.length > 0);
  const bothThere = here.some(({ role }) => role === "agent") && here.some(({ role }) => role === "gateway");
  if (isLinked || !bothThere) return [];
  const text =
    "no agent is linked to any gateway: can agents reach the gateways' addresses (dataPlane.links), and do labels allow it?";
  return [{ name: "links", ok: false, text }];
}

/** `authorities` as `AuthorityService/List` answers. */
export function judgeAuthorities(authorities: readonly Row[], nowMs: number): Finding {
  const name = "authority";
  const signing = authorities.find(({ state }) => state === "signing");
  const expiresMs = timeOf(signing?.["expiresAt"]);
  if (signing === undefined || expiresMs === undefined)
    return { name, ok: false, text: "none signs certificates: look at the control planes' log" };
  const until = formatTime(signing["expiresAt"]);
  const next = authorities.find(({ state }) => state === "announced");
  if (next !== undefined) {
    return {
      name,
      ok: true,
      text: `${plain(next["fingerprint"]).slice(0, 16)} is announced and takes over from one until ${until}`,
    };
  }
  if (expiresMs - nowMs >= AUTHORITY_LEFT_MS) return { name, ok: true, text: `signs until ${until}` };
  return { name, ok: false, text: `ends ${until}: run \`sluice ca rotate\`, and give its file to callers that verify gateways` };
}

/** `aheadMs`: how far this machine's clock is ahead of the control plane's. */
export function judgeClock(aheadMs: number): Finding {
  const name = "clock";
  if (Math.abs(aheadMs) <= CLOCK_TOLERANCE_MS) return { name, ok: true, text: "goes with the control plane's" };
  const seconds = Math.round(Math.abs(aheadMs) / 1_000);
  const text = `this machine's is ${seconds} s ${aheadMs > 0 ? "ahead of" : "behind"} the control plane's: certificates, leases and tokens go by it; synchronise both`;
  return { name, ok: false, text };
}

function countRoles(here: readonly Row[]): string {
  const counts = ["gateway", "agent", "recorder"].map((role) => {
    const count = here.filter((node) => node["role"] === role).length;
    return `${count} ${role}${count === 1 ? "" : "s"}`;
  });
  return counts.join(", ");
}

function enforces({ role }: Row): boolean {
  return role === "gateway" || role === "agent";
}

function newestOf(here: readonly Row[]): number {
  return Math.max(0, ...here.map((node) => sequenceOf(node)));
}

function sequenceOf({ snapshot }: Row): number {
  return isRecord(snapshot) && typeof snapshot["sequence"] === "number" ? snapshot["sequence"] : 0;
}

function shownSequence(node: Row): string {
  return sequenceOf(node) === 0 ? "none" : String(sequenceOf(node));
}

function titleOf(node: Row): string {
  return `${plain(node["role"])} ${plain(node["name"])}`;
}

function plain(value: unknown): string {
  return typeof value === "string" || typeof value === "number" ? visible(String(value)) : "?";
}

function timeOf(value: unknown): number | undefined {
  const ms = typeof value === "string" ? Date.parse(value) : Number.NaN;
  return Number.isNaN(ms) ? undefined : ms;
}
