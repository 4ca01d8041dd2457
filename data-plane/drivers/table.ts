/** The protocols this gateway speaks: one line each. */
import type { DriverTable } from "./driver.ts";
import { servePostgres } from "./postgres.ts";

export const drivers: DriverTable = {
  postgres: servePostgres,
};
