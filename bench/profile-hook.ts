/** Loaded into a measured process by `profile.ts`: SIGUSR2 begins a CPU profile of the main thread, the next writes it to a file. */
import { writeFileSync } from "node:fs";
import inspector from "node:inspector";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isMainThread } from "node:worker_threads";

let session: inspector.Session | undefined;

if (isMainThread) {
  process.on("SIGUSR2", () => {
    if (session === undefined) {
      session = new inspector.Session();
      session.connect();
      session.post("Profiler.enable");
      session.post("Profiler.start");
      return;
    }
    const ending = session;
    session = undefined;
    ending.post("Profiler.stop", (_error, { profile }) => {
      writeFileSync(join(tmpdir(), `sluice-profile-${process.pid}.json`), JSON.stringify(profile));
      ending.disconnect();
    });
  });
}
