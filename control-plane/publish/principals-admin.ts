/** Who may not log in, whatever their tokens say: kept in the store, part of the snapshot, so that every gateway ends their sessions. */
import { GatewayError } from "@sluice/core/errors.ts";
import type { Kysely } from "kysely";
import { sql } from "kysely";
import type { Logger } from "pino";
import type { PrincipalRef, PrincipalsAdmin } from "../api/services.ts";
import type { Tables } from "../store/tables.ts";
import type { Publisher } from "./publisher.ts";

const TEXT_CHARS_MAX = 1_024;

export interface PrincipalsAdminOptions {
  readonly db: Kysely<Tables>;
  readonly publisher: Pick<Publisher, "changeDisabled">;
  readonly log: Logger;
}

export function createPrincipalsAdmin({ db, publisher, log }: PrincipalsAdminOptions): PrincipalsAdmin {
  return {
    disable: async ({ subject, issuer, owner, reason, author }) => {
      const principal = checked({ subject, issuer, owner });
      await publisher.changeDisabled(author, async (transaction) => {
        // Disabled twice: the newer reason counts.
        await deleteOne(transaction, principal);
        const values = { ...principal, reason: cut(reason), author: cut(author), since: sql<Date>`clock_timestamp()` };
        await transaction.insertInto("disabled_principals").values(values).execute();
      });
      log.warn({ author, kind: principal.owner === null ? "subject" : "owner" }, "a principal was disabled");
    },
    enable: async ({ subject, issuer, owner }) => {
      const principal = checked({ subject, issuer, owner });
      await publisher.changeDisabled("", async (transaction) => {
        if ((await deleteOne(transaction, principal)) === 0n) {
          throw new GatewayError("not_found", "This principal is not disabled.", {
            hint: "`sluice principals list` shows who is; issuer, subject and owner must be the same.",
          });
        }
      });
      log.warn("a principal was enabled again");
    },
    list: async () => {
      const rows = await db.selectFrom("disabled_principals").selectAll().orderBy("id").execute();
      return rows.map(({ subject, issuer, owner, reason, author, since }) => {
        return { subject, issuer, owner, reason, author, since: since.toISOString() };
      });
    },
  };
}

function checked({ subject, issuer, owner }: PrincipalRef): PrincipalRef {
  const isSubject = subject !== null && subject !== "" && owner === null;
  const isOwner = owner !== null && owner !== "" && subject === null && issuer === null;
  if (!isSubject && !isOwner) {
    throw new GatewayError("config_invalid", "Say either a subject (with its issuer, or of any issuer) or an owner.");
  }
  if ([subject, issuer, owner].some((text) => (text?.length ?? 0) > TEXT_CHARS_MAX)) {
    throw new GatewayError("config_invalid", `Names of principals have ${TEXT_CHARS_MAX} characters at most.`);
  }
  return { subject, issuer, owner };
}

async function deleteOne(db: Kysely<Tables>, { subject, issuer, owner }: PrincipalRef): Promise<bigint> {
  const result = await db
    .deleteFrom("disabled_principals")
    .where(sql<boolean>`(subject, issuer, owner) is not distinct from (${subject}::text, ${issuer}::text, ${owner}::text)`)
    .executeTakeFirst();
  return result.numDeletedRows;
}

function cut(text: string): string {
  return text.slice(0, TEXT_CHARS_MAX);
}
