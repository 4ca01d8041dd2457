/** What `npm start` says once everything serves. Every line can be pasted as it stands; every connection verifies the server. */
import { conninfo } from "../commands/psql.ts";

export interface WalkThrough {
  readonly host: string;
  readonly port: number;
  readonly caFile: string;
  /** Given on the command line only when it is not where commands look by themselves. */
  readonly readyFile: string | undefined;
}

export function walkThroughText(where: WalkThrough): string {
  const ready = where.readyFile === undefined ? "" : ` --ready-file ${quoteForShell(where.readyFile)}`;
  const sluice = (command: string): string => `npx --no-install sluice ${command}${ready}`;
  const connection = conninfo({
    host: where.host,
    port: String(where.port),
    dbname: "demo",
    user: "ada",
    sslmode: "verify-full",
    sslrootcert: where.caFile,
  });
  return `
Sluice is running. PostgreSQL callers connect to ${where.host}:${where.port}; the token is the password.

1. In another terminal, in this folder, connect as Ada's agent:

   PGPASSWORD=$(${sluice("token --subject ada --group agents")}) psql "${connection}"

   Without psql: ${sluice("psql demo --as ada --group agents")}

2. Try these:

   SELECT id, full_name, email, ssn FROM customers ORDER BY id LIMIT 5;   -- masked by column
   SELECT body FROM support_notes WHERE id < 8;                           -- masked inside free text
   SELECT substr(ssn, 1, 3) FROM customers WHERE id = 1;                  -- a piece of it shows nothing
   SELECT * FROM customers;                                               -- refused: bulk export
   COPY cards TO STDOUT;                                                  -- refused
   UPDATE customers SET city = 'Porto' WHERE id = 1;                      -- needs an approval
   \\d customers

3. See what was recorded, and that nobody has changed it:

   ${sluice("sessions list")}
   ${sluice("sessions replay last")}
   ${sluice("sessions verify last")}

4. Ask before you run:

   ${sluice(`policy explain --as '{"sub":"ada","groups":["agents"]}' --resource demo --sql "DELETE FROM orders"`)}

A member of dba sees everything: ${sluice("psql demo --as grace --group dba")}
Ctrl-C ends Sluice and the demo database. The data stays for the next start.
`;
}

/** For POSIX shells. */
function quoteForShell(text: string): string {
  return /^[A-Za-z0-9_./:@-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
