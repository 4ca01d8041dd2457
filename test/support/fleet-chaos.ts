/**
 * Breaks an installation under load, one part after another and two at a time, and says of everything that callers saw whether it was
 * right: nothing unmasked, nothing released that is not recorded, no error that the documentation does not name, nobody left waiting.
 * What it does by chance comes from a seed.
 */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Fleet, startFleet } from "./fleet.ts";
import { JOURNAL, type Load, type Place, placesOf, startLoad, type Transcript } from "./fleet-load.ts";
import type { FleetNode } from "./fleet-node.ts";
import { markersOf, planted } from "./orders-schema.ts";
import { RawClient } from "./raw-client.ts";
import { type SeededRandom, seededRandom } from "./seeded-random.ts";
import { repository } from "./sluice.ts";
import { APP_USER } from "./targets.ts";
import { rowsOf } from "./wire-messages.ts";

export interface ChaosOptions {
  readonly seed: number;
  /** How long parts go on breaking; every kind is broken once even if that takes longer. Milliseconds. */
  readonly breakingMs: number;
  readonly callersPerGateway: number;
  /** Where every process's log is kept when something was wrong; nowhere without it. */
  readonly logDirectory?: string;
  readonly say: (line: string) => void;
}

export interface ChaosReport {
  /** What must not have been; empty: all is well. */
  readonly faults: readonly string[];
  readonly episodes: readonly Episode[];
  readonly units: number;
  readonly sessions: number;
  readonly rows: number;
  /** How often callers were told which code. */
  readonly errors: Readonly<Record<string, number>>;
}

export interface Episode {
  readonly name: string;
  /** From the breaking until a new session works through every gateway that runs. Milliseconds. */
  readonly servedAgainMs: number;
  /** From when everything is back until a new session works through every gateway. Milliseconds. */
  readonly wholeAgainMs: number;
}

/** Something that can be broken and mended. */
interface Part {
  readonly name: string;
  readonly break: () => Promise<void>;
  readonly mend: () => Promise<void>;
}

interface ListedSessions {
  readonly sessions: readonly { readonly id: string; readonly state: string }[];
}

/** A gateway was away. */
interface Down {
  readonly gateway: string;
  /** Without a goodbye to its sessions. */
  readonly killed: boolean;
  readonly fromMs: number;
  untilMs: number;
}

/** Within this, new sessions work again after anything was killed, wherever anything is left that can serve them. */
export const SERVED_AGAIN_MS = 10_000;
/** How long a part stays away. Milliseconds. */
const AWAY_MS = 1_500;
/** Clocks of one machine; what a caller sees and when the process is gone may change places. Milliseconds. */
const NEAR_MS = 250;
const RECORDED_WITHIN_MS = 60_000;

export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  const fleet = await startFleet({
    prepare: (target) =>
      target.admin("orders", async (client) => {
        await client.query(`SET ROLE ${APP_USER}`);
        await client.query(JOURNAL);
      }),
    manifests: (text) => text.replace("credential:", "inspection: { safeFunctions: [pg_catalog.pg_sleep] }\n  credential:"),
  });
  try {
    return await new Chaos(fleet, options).run();
  } finally {
    await fleet.stop();
  }
}

class Chaos {
  readonly #fleet: Fleet;
  readonly #options: ChaosOptions;
  readonly #random: SeededRandom;
  readonly #places: ReadonlyMap<string, Place>;
  readonly #faults: string[] = [];
  readonly #episodes: Episode[] = [];
  readonly #downs: Down[] = [];

  constructor(fleet: Fleet, options: ChaosOptions) {
    this.#fleet = fleet;
    this.#options = options;
    this.#random = seededRandom(options.seed);
    this.#places = placesOf(fleet);
  }

  async run(): Promise<ChaosReport> {
    const { seed, breakingMs, callersPerGateway, say } = this.#options;
    const load = startLoad(this.#fleet, { callersPerGateway, random: seededRandom(seed + 1), pauseMs: 25 });
    await delay(1_000);
    const deadlineMs = performance.now() + breakingMs;
    for (const episode of this.#firstEpisodes()) await this.#episode(episode, load);
    while (performance.now() < deadlineMs) await this.#episode(this.#randomParts(), load);
    await load.stop();
    await this.#judge(load);
    if (this.#faults.length > 0) await this.#keepLogs();
    const { transcripts } = load;
    const errors: Record<string, number> = {};
    for (const { code, sqlState } of transcripts.flatMap((one) => one.errors))
      errors[`${sqlState} ${code}`] = (errors[`${sqlState} ${code}`] ?? 0) + 1;
    const report: ChaosReport = {
      faults: this.#faults,
      episodes: this.#episodes,
      units: load.done,
      sessions: transcripts.filter(({ sessionId }) => sessionId !== null).length,
      rows: transcripts.reduce((sum, { rows }) => sum + rows.length, 0),
      errors,
    };
    for (const line of linesOf(report, seed)) say(line);
    return report;
  }

  /** Every kind once, in an order by chance, and the pairs that matter most. */
  #firstEpisodes(): readonly (readonly Part[])[] {
    const { controlPlanes, gateways, agents, recorder } = this.#fleet;
    const random = this.#random;
    const one = (nodes: readonly FleetNode[]): Part => this.#node(random.pick(nodes));
    return random.shuffled([
      [one(gateways)],
      [one(agents)],
      [one(controlPlanes)],
      [this.#node(recorder)],
      [this.#nats()],
      [this.#store()],
      [this.#inOrder(random.pick(gateways))],
      controlPlanes.map((node) => this.#node(node)),
      [one(gateways), one(agents)],
      [this.#node(recorder), this.#nats()],
    ]);
  }

  #randomParts(): readonly Part[] {
    const { controlPlanes, gateways, agents, recorder } = this.#fleet;
    const parts = [
      ...[...controlPlanes, ...gateways, ...agents, recorder].map((node) => this.#node(node)),
      this.#nats(),
      this.#store(),
    ];
    return this.#random.shuffled(parts).slice(0, 1 + this.#random.below(2));
  }

  #node(node: FleetNode): Part {
    return {
      name: `${node.name} killed`,
      break: async () => {
        this.#downs.push({ gateway: node.name, killed: true, fromMs: Date.now(), untilMs: Number.POSITIVE_INFINITY });
        await node.kill();
      },
      mend: () => this.#start(node),
    };
  }

  #inOrder(node: FleetNode): Part {
    return {
      name: `${node.name} stopped in good order`,
      break: async () => {
        this.#downs.push({ gateway: node.name, killed: false, fromMs: Date.now(), untilMs: Number.POSITIVE_INFINITY });
        const status = await node.stop();
        if (status !== 0) this.#faults.push(`${node.name} ended with status ${status} when it was told to stop`);
      },
      mend: () => this.#start(node),
    };
  }

  async #start(node: FleetNode): Promise<void> {
    await node.start();
    for (const down of this.#downs) if (down.gateway === node.name) down.untilMs = Math.min(down.untilMs, Date.now());
  }

  #nats(): Part {
    const { nats } = this.#fleet;
    return { name: "nats killed", break: () => nats.kill(), mend: () => nats.start() };
  }

  #store(): Part {
    const { store } = this.#fleet;
    return { name: "store broken off", break: () => store.crash(), mend: () => store.start() };
  }

  async #episode(parts: readonly Part[], load: Load): Promise<void> {
    const name = parts.map((part) => part.name).join(" and ");
    const before = load.done;
    const brokenMs = performance.now();
    await Promise.all(parts.map((part) => part.break()));
    const { agents } = this.#fleet;
    // Without any agent there is nobody to serve; that is looked at once they are back.
    const canServe = agents.some((agent) => agent.running);
    const servedAgainMs = canServe ? await this.#untilServed(brokenMs, `${name}: before it was mended`) : 0;
    await delay(Math.max(0, AWAY_MS - (performance.now() - brokenMs)));
    await Promise.all(parts.map((part) => part.mend()));
    const mendedMs = performance.now();
    const wholeAgainMs = await this.#untilServed(mendedMs, `${name}: after it was mended`);
    if (load.done === before) this.#faults.push(`${name}: no caller did anything meanwhile`);
    this.#episodes.push({ name, servedAgainMs, wholeAgainMs });
    this.#options.say(
      `${new Date().toISOString()} ${name}: served again after ${servedAgainMs} ms, whole again ${wholeAgainMs} ms after the restart`,
    );
  }

  /** A new session and a masked row through every gateway that runs. */
  async #untilServed(sinceMs: number, when: string): Promise<number> {
    const token = await this.#fleet.token("probe", ["agents"]);
    await Promise.all(
      this.#fleet.gateways.map(async (gateway) => {
        let last = "";
        while (gateway.running) {
          last = await this.#probe(gateway, token);
          if (last === "") return;
          if (performance.now() - sinceMs > SERVED_AGAIN_MS) {
            this.#faults.push(`${when}: no session through ${gateway.name} within ${SERVED_AGAIN_MS} ms; last: ${last}`);
            return;
          }
          await delay(50);
        }
      }),
    );
    return Math.round(performance.now() - sinceMs);
  }

  /** Empty when it worked. */
  async #probe(gateway: FleetNode, token: string): Promise<string> {
    let client: RawClient | undefined;
    try {
      client = await RawClient.login({ ...this.#places.get(gateway.name)!, token });
      const rows = rowsOf(await client.query("SELECT ssn FROM customers WHERE id = 1"));
      await client.end();
      return JSON.stringify(rows) === '[["***-**-9382"]]' ? "" : `answered ${JSON.stringify(rows)}`;
    } catch (error) {
      client?.vanish();
      return String(error);
    }
  }

  async #keepLogs(): Promise<void> {
    const { logDirectory } = this.#options;
    if (logDirectory === undefined) return;
    await mkdir(logDirectory, { recursive: true });
    await writeFile(join(logDirectory, "faults.txt"), `${this.#faults.join("\n")}\n`);
    const { controlPlanes, gateways, agents, recorder } = this.#fleet;
    for (const node of [...controlPlanes, ...gateways, ...agents, recorder])
      await writeFile(join(logDirectory, `${node.name}.log`), node.output());
  }

  async #judge(load: Load): Promise<void> {
    const documented = await documentedCodes();
    for (const transcript of load.transcripts) this.#judgeTranscript(transcript, documented);
    await this.#judgeWrites(load);
    await this.#judgeRecordings(load.transcripts);
    await this.#judgeIndex(load.transcripts);
    const { controlPlanes, gateways, agents, recorder } = this.#fleet;
    for (const node of [...controlPlanes, ...gateways, ...agents, recorder]) {
      for (const marker of markersOf(planted))
        if (node.output().includes(marker)) this.#faults.push(`${node.name} logged ${marker}`);
    }
    await this.#fleet.untilConnected("gateway", gateways.length);
    await this.#fleet.untilConnected("agent", agents.length);
    await this.#fleet.untilConnected("recorder", 1);
  }

  #judgeTranscript(transcript: Transcript, documented: ReadonlySet<string>): void {
    const { caller, gateway, masked, errors, end, fault, received } = transcript;
    const where = `${caller} at ${gateway} (${transcript.sessionId ?? "no session"})`;
    if (fault !== null) this.#faults.push(`${where}: ${fault}`);
    if (masked) {
      const text = received.toString("latin1");
      for (const marker of markersOf(planted)) if (text.includes(marker)) this.#faults.push(`${where} received ${marker}`);
    }
    for (const { sqlState, code, message } of errors) {
      // The one refusal that the load asks for.
      const asked = code === "denied" && message === "bulk export is not allowed for agents";
      if (!asked && !documented.has(code)) this.#faults.push(`${where}: ${sqlState} ${code} ${message}`);
    }
    // A gateway that ends in good order tells its sessions why; only who comes while it is away finds nobody.
    const excused = this.#wasDown(transcript, transcript.sessionId !== null);
    if (end === "silent" && !excused) this.#faults.push(`${where}: the connection ended without a word`);
  }

  #wasDown({ gateway, beganMs, endedMs }: Transcript, killed: boolean): boolean {
    return this.#downs.some(
      (down) =>
        down.gateway === gateway &&
        (down.killed || !killed) &&
        down.fromMs < endedMs + NEAR_MS &&
        down.untilMs > beganMs - NEAR_MS,
    );
  }

  /** Whatever was acknowledged is there. */
  async #judgeWrites(load: Load): Promise<void> {
    const rows = await this.#fleet.target.admin("orders", async (client) => {
      const result = await client.query<{ key: string }>("SELECT caller || ' ' || number AS key FROM journal");
      return new Set(result.rows.map(({ key }) => key));
    });
    for (const [caller, number] of load.written)
      if (!rows.has(`${caller} ${number}`)) this.#faults.push(`${caller} was told that ${number} is written, and it is not`);
  }

  /** Every row that a caller received is in its session's recording, which is whole, signed and closed. */
  async #judgeRecordings(transcripts: readonly Transcript[]): Promise<void> {
    const deadlineMs = performance.now() + RECORDED_WITHIN_MS;
    for (const transcript of transcripts) {
      const { sessionId, caller, gateway } = transcript;
      if (sessionId === null) continue;
      for (;;) {
        const fault = await this.#recordingFault(sessionId, transcript).catch((error: unknown) => String(error));
        if (fault === null) break;
        if (performance.now() > deadlineMs) {
          this.#faults.push(`${sessionId} of ${caller} at ${gateway}: ${fault}`);
          break;
        }
        await delay(200);
      }
    }
  }

  /** Every session is listed at every control plane, and none as if it still ran. */
  async #judgeIndex(transcripts: readonly Transcript[]): Promise<void> {
    const ids = transcripts.flatMap(({ sessionId }) => sessionId ?? []);
    for (const controlPlane of this.#fleet.controlPlanes) {
      const deadlineMs = performance.now() + RECORDED_WITHIN_MS;
      for (;;) {
        const listed = (await this.#fleet.admin("SessionService/List", {}, controlPlane)) as ListedSessions; // its published shape
        const states = new Map(listed.sessions.map(({ id, state }) => [id, state]));
        const wrong = ids.filter((id) => !["ended", "lost"].includes(states.get(id) ?? "not listed"));
        if (wrong.length === 0) break;
        if (performance.now() > deadlineMs) {
          for (const id of wrong) this.#faults.push(`${id} at ${controlPlane.name}: ${states.get(id) ?? "not listed"}`);
          break;
        }
        await delay(500);
      }
    }
  }

  async #recordingFault(sessionId: string, transcript: Transcript): Promise<string | null> {
    const items = await this.#fleet.replay(sessionId);
    const left = new Map<string, number>();
    for (const { kind, values } of items) {
      const key = JSON.stringify(values);
      if (kind === "row") left.set(key, (left.get(key) ?? 0) + 1);
    }
    for (const row of transcript.rows) {
      const key = JSON.stringify(row);
      const count = left.get(key) ?? 0;
      if (count === 0) return `${key} was received and is not recorded`;
      left.set(key, count - 1);
    }
    const report = (await this.#fleet.admin("SessionService/Verify", { id: sessionId })) as Readonly<Record<string, unknown>>; // JSON of the report
    // Nobody could end the recording of a session whose gateway was killed; the recorder's own word then is that it is lost.
    const state = report["state"];
    if (report["ok"] === true || (state === "lost" && this.#wasDown(transcript, true))) return null;
    return `its recording is not whole: ${JSON.stringify(report)}`;
  }
}

/** The codes that the guide tells callers to expect while parts of an installation are away. */
async function documentedCodes(): Promise<ReadonlySet<string>> {
  const guide = await readFile(join(repository, "docs/guides/connect.md"), "utf8");
  const [, section = ""] = guide.split("## While parts of an installation are away");
  const codes = [...(section.split("\n## ")[0] ?? "").matchAll(/^\| `(\w+)` \|/gm)].map(([, code]) => code!); // one group
  if (codes.length === 0) throw new Error("docs/guides/connect.md lists no codes any more");
  return new Set(codes);
}

function linesOf(report: ChaosReport, seed: number): readonly string[] {
  const { episodes, units, sessions, rows, errors, faults } = report;
  const longest = (pick: (episode: Episode) => number): number => Math.max(0, ...episodes.map(pick));
  return [
    `seed ${seed}: ${episodes.length} episodes, ${units} units of work in ${sessions} sessions, ${rows} rows received`,
    `served again within ${longest((one) => one.servedAgainMs)} ms, whole again within ${longest((one) => one.wholeAgainMs)} ms of a restart`,
    `errors that callers were told: ${JSON.stringify(errors)}`,
    ...(faults.length === 0 ? ["no faults"] : [`${faults.length} faults:`, ...faults.slice(0, 40)]),
  ];
}
