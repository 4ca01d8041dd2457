// lib/pq through database/sql. See package features.
package main

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"strings"
	"time"

	"clients/features"

	"github.com/lib/pq"
)

func state(err error) string {
	var answered *pq.Error
	if errors.As(err, &answered) {
		return string(answered.Code)
	}
	if err != nil {
		return err.Error()
	}
	return "none"
}

func main() {
	database, err := sql.Open("postgres", features.URL(os.Getenv("TEST_CA")))
	if err != nil {
		panic(err)
	}
	database.SetMaxOpenConns(1)
	exec := func(text string, values ...any) string {
		_, err := database.Exec(text, values...)
		return state(err)
	}
	number := func(text string) any {
		var seen int
		if err := database.QueryRow(text).Scan(&seen); err != nil {
			return err.Error()
		}
		return seen
	}
	byID := func(id int, more string) (any, error) {
		url := features.URL(os.Getenv("TEST_CA")) + more
		own, err := sql.Open("postgres", url)
		if err != nil {
			return nil, err
		}
		defer own.Close()
		var number int
		var name, ssn string
		err = own.QueryRow(features.ByID, id).Scan(&number, &name, &ssn)
		return []any{number, name, ssn}, err
	}
	features.Feature("version", func() (any, error) { return features.Version("github.com/lib/pq"), nil })
	features.Feature("connect", func() (any, error) { return number("SELECT 1"), nil })
	features.Feature("verify", func() (any, error) {
		other, _ := sql.Open("postgres", features.URL(os.Getenv("TEST_WRONG_CA")))
		err := other.Ping()
		return err != nil && strings.Contains(err.Error(), "certificate"), nil
	})
	features.Feature("parameters", func() (any, error) { return byID(1, "") })
	features.Feature("binary", func() (any, error) { return byID(2, " binary_parameters=yes") })
	features.Feature("prepared", func() (any, error) {
		statement, err := database.Prepare(features.SSN)
		if err != nil {
			return nil, err
		}
		defer statement.Close()
		seen := []string{}
		for n := range 9 {
			var ssn string
			if err := statement.QueryRow(1 + n%3).Scan(&ssn); err != nil {
				return nil, err
			}
			seen = append(seen, ssn)
		}
		return seen, nil
	})
	features.Feature("types", func() (any, error) {
		var a, b int
		var c float64
		var d string
		var e bool
		var f *string
		err := database.QueryRow(features.Types).Scan(&a, &b, &c, &d, &e, &f)
		return []any{a, b, c, d, e, f}, err
	})
	features.Feature("rows", func() (any, error) {
		rows, err := database.Query("SELECT id FROM big")
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		sum := 0
		for rows.Next() {
			var id int
			if err := rows.Scan(&id); err != nil {
				return nil, err
			}
			sum += id
		}
		return sum, rows.Err()
	})
	features.Feature("error", func() (any, error) { return []any{exec("SELECT * FROM nowhere"), number("SELECT 1")}, nil })
	features.Feature("refused", func() (any, error) { return []any{exec(features.Refused), number("SELECT 1")}, nil })
	features.Feature("transaction", func() (any, error) {
		count := "SELECT count(*) FROM scratch"
		own, err := database.Begin()
		if err != nil {
			return nil, err
		}
		_, _ = own.Exec("INSERT INTO scratch VALUES ($1, $2)", 1, "a")
		var inside int
		_ = own.QueryRow(count).Scan(&inside)
		_, failed := own.Exec("SELECT 1/0")
		_, aborted := own.Exec("SELECT 1")
		_ = own.Rollback()
		seen := []any{inside, state(failed), state(aborted), number(count)}
		own, err = database.Begin()
		if err != nil {
			return nil, err
		}
		_, _ = own.Exec("INSERT INTO scratch VALUES ($1, $2)", 1, "a")
		err = own.Commit()
		seen = append(seen, number(count))
		exec("DELETE FROM scratch")
		return seen, err
	})
	features.Feature("copy in", func() (any, error) {
		own, err := database.Begin()
		if err != nil {
			return nil, err
		}
		statement, err := own.Prepare(pq.CopyIn("scratch", "n", "note"))
		if err != nil {
			return nil, err
		}
		for n := range 1000 {
			if _, err := statement.Exec(n, "copied"); err != nil {
				return nil, err
			}
		}
		if _, err := statement.Exec(); err != nil {
			return nil, err
		}
		_ = statement.Close()
		err = own.Commit()
		seen := number("SELECT count(*) FROM scratch")
		exec("DELETE FROM scratch")
		return seen, err
	})
	features.Feature("notify", func() (any, error) {
		listener := pq.NewListener(features.URL(os.Getenv("TEST_CA")), time.Second, time.Minute, nil)
		defer listener.Close()
		if err := listener.Listen("news"); err != nil {
			return nil, err
		}
		exec("NOTIFY news, 'hello'")
		select {
		case heard := <-listener.Notify:
			return heard.Extra, nil
		case <-time.After(5 * time.Second):
			return nil, errors.New("nothing was heard")
		}
	})
	features.Feature("cancel", func() (any, error) {
		soon, stop := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer stop()
		_, err := database.ExecContext(soon, "SELECT pg_sleep(20)")
		seen := state(err)
		if errors.Is(err, context.DeadlineExceeded) {
			seen = "57014" // database/sql shows its own error; the statement has ended, else the next would wait for it
		}
		return []any{seen, number("SELECT 1")}, nil
	})
	_ = database.Close()
}
