// Package features is what the Go programs share: where to connect to, the statements, and one line of JSON for each feature.
package features

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
)

const (
	ByID    = "SELECT id, name, ssn FROM customers WHERE id = $1"
	SSN     = "SELECT ssn FROM customers WHERE id = $1"
	Three   = "SELECT ssn FROM customers WHERE id < 4 ORDER BY id"
	CopyOut = "COPY (SELECT id, ssn FROM customers WHERE id < 4 ORDER BY id) TO STDOUT"
	Types   = "SELECT 1::int4, 2::int8, 1.5::float8, 'x'::text, true, NULL::text"
	Refused = "GRANT SELECT ON orders TO PUBLIC"
)

// URL of the gateway, verified with the given CA.
func URL(caFile string) string {
	return fmt.Sprintf("host=127.0.0.1 port=%s dbname=%s user=me password=%s sslmode=verify-full sslrootcert=%s",
		os.Getenv("TEST_PORT"), os.Getenv("TEST_DATABASE"), os.Getenv("TEST_TOKEN"), caFile)
}

func TLS(caFile string) (*tls.Config, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}, nil
}

// Version of a module that the program was built with.
func Version(module string) string {
	info, _ := debug.ReadBuildInfo()
	for _, each := range info.Deps {
		if each.Path == module {
			return strings.TrimPrefix(each.Version, "v")
		}
	}
	return "unknown"
}

// Feature runs the function; what it returns is what was seen.
func Feature(name string, work func() (any, error)) {
	line := map[string]any{"feature": name}
	if value, err := work(); err != nil {
		fmt.Fprintln(os.Stderr, name, err)
		line["error"] = err.Error()
	} else {
		line["value"] = value
	}
	text, _ := json.Marshal(line)
	fmt.Println(string(text))
}
