// pgx, which prepares and caches by itself, asks for binary results, and pipelines. See package features.
package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"clients/features"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

var ctx = context.Background()

func state(err error) string {
	var answered *pgconn.PgError
	if errors.As(err, &answered) {
		return answered.Code
	}
	if err != nil {
		return err.Error()
	}
	return "none"
}

func main() {
	connection, err := pgx.Connect(ctx, features.URL(os.Getenv("TEST_CA")))
	if err != nil {
		panic(err)
	}
	exec := func(sql string) string {
		_, err := connection.Exec(ctx, sql)
		return state(err)
	}
	one := func() any {
		var seen int
		if err := connection.QueryRow(ctx, "SELECT 1").Scan(&seen); err != nil {
			return err.Error()
		}
		return seen
	}
	count := func() any {
		var seen int
		if err := connection.QueryRow(ctx, "SELECT count(*) FROM scratch").Scan(&seen); err != nil {
			return err.Error()
		}
		return seen
	}
	row := func(sql string, values ...any) (any, error) {
		rows, err := connection.Query(ctx, sql, values...)
		if err != nil {
			return nil, err
		}
		return pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) ([]any, error) { return row.Values() })
	}
	features.Feature("version", func() (any, error) { return features.Version("github.com/jackc/pgx/v5"), nil })
	features.Feature("connect", func() (any, error) { return one(), nil })
	features.Feature("verify", func() (any, error) {
		_, err := pgx.Connect(ctx, features.URL(os.Getenv("TEST_WRONG_CA")))
		return err != nil && strings.Contains(err.Error(), "certificate"), nil
	})
	features.Feature("parameters", func() (any, error) { return row(features.ByID, pgx.QueryExecModeSimpleProtocol, 1) })
	features.Feature("prepared", func() (any, error) {
		if _, err := connection.Prepare(ctx, "by_id", features.SSN); err != nil {
			return nil, err
		}
		seen := []string{}
		for n := range 9 {
			var ssn string
			if err := connection.QueryRow(ctx, "by_id", 1+n%3).Scan(&ssn); err != nil {
				return nil, err
			}
			seen = append(seen, ssn)
		}
		return seen, nil
	})
	features.Feature("binary", func() (any, error) { return row(features.ByID, pgx.QueryResultFormats{1}, 2) })
	features.Feature("types", func() (any, error) { return row(features.Types) })
	features.Feature("rows", func() (any, error) {
		rows, err := connection.Query(ctx, "SELECT id FROM big")
		if err != nil {
			return nil, err
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[int])
		sum := 0
		for _, id := range ids {
			sum += id
		}
		return sum, err
	})
	features.Feature("error", func() (any, error) { return []any{exec("SELECT * FROM nowhere"), one()}, nil })
	features.Feature("refused", func() (any, error) { return []any{exec(features.Refused), one()}, nil })
	features.Feature("refused in a transaction", func() (any, error) {
		exec("BEGIN")
		seen := []any{exec(features.Refused), exec("SELECT 1")}
		exec("ROLLBACK")
		return append(seen, one()), nil
	})
	features.Feature("transaction", func() (any, error) {
		exec("BEGIN")
		exec("INSERT INTO scratch VALUES (1, 'a')")
		seen := []any{count(), exec("SELECT 1/0"), exec("SELECT 1")}
		exec("ROLLBACK")
		seen = append(seen, count())
		err := pgx.BeginFunc(ctx, connection, func(own pgx.Tx) error {
			if _, err := own.Exec(ctx, "INSERT INTO scratch VALUES ($1, $2)", 1, "a"); err != nil {
				return err
			}
			return pgx.BeginFunc(ctx, own, func(inner pgx.Tx) error { _, err := inner.Exec(ctx, "SELECT 1"); return err })
		})
		seen = append(seen, count())
		exec("DELETE FROM scratch")
		return seen, err
	})
	features.Feature("copy in", func() (any, error) {
		rows := [][]any{}
		for n := range 1000 {
			rows = append(rows, []any{n, "copied"})
		}
		// pgx copies in binary.
		_, err := connection.CopyFrom(ctx, pgx.Identifier{"scratch"}, []string{"n", "note"}, pgx.CopyFromRows(rows))
		seen := count()
		exec("DELETE FROM scratch")
		return seen, err
	})
	features.Feature("copy out", func() (any, error) {
		var out bytes.Buffer
		_, err := connection.PgConn().CopyTo(ctx, &out, features.CopyOut)
		return out.String(), err
	})
	features.Feature("notify", func() (any, error) {
		exec("LISTEN news")
		exec("NOTIFY news, 'hello'")
		soon, stop := context.WithTimeout(ctx, 5*time.Second)
		defer stop()
		heard, err := connection.WaitForNotification(soon)
		if err != nil {
			return nil, err
		}
		return heard.Payload, nil
	})
	features.Feature("pipeline", func() (any, error) {
		// Three syncs in one flight, the second of them over a statement that fails.
		pipeline := connection.PgConn().StartPipeline(ctx)
		for _, sql := range []string{features.Three, "SELECT 1/0", "SELECT 3"} {
			pipeline.SendQueryParams(sql, nil, nil, nil, nil)
			pipeline.SendPipelineSync()
		}
		if err := pipeline.Flush(); err != nil {
			return nil, err
		}
		seen := []any{}
		for len(seen) < 3 {
			results, err := pipeline.GetResults()
			if err != nil {
				seen = append(seen, state(err))
				continue
			}
			if reader, ok := results.(*pgconn.ResultReader); ok {
				read := reader.Read()
				if read.Err != nil {
					seen = append(seen, state(read.Err))
				} else if len(seen) == 0 {
					seen = append(seen, string(read.Rows[0][0]))
				} else {
					seen = append(seen, len(read.Rows)+2)
				}
			}
		}
		return seen, pipeline.Close()
	})
	features.Feature("pipeline of one statement", func() (any, error) {
		batch := &pgx.Batch{}
		for n := range 100 {
			batch.Queue("INSERT INTO scratch VALUES ($1, $2)", n, "many")
		}
		if err := connection.SendBatch(ctx, batch).Close(); err != nil {
			return nil, err
		}
		seen := count()
		exec("DELETE FROM scratch")
		failing := &pgx.Batch{}
		for _, n := range []int{1, 0, 2} {
			failing.Queue("SELECT 1 / $1::int", n)
		}
		failed := state(connection.SendBatch(ctx, failing).Close())
		return []any{seen, failed, one().(int) + 2}, nil
	})
	features.Feature("cancel", func() (any, error) {
		timer := time.AfterFunc(300*time.Millisecond, func() { _ = connection.PgConn().CancelRequest(ctx) })
		defer timer.Stop()
		return []any{exec("SELECT pg_sleep(20)"), one()}, nil
	})
	_ = connection.Close(ctx)
}
