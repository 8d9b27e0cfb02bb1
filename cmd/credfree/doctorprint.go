package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
)

// writeJSON prints the diagnosis for scripts.
func (d diagnosis) writeJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(d)
}

// marks are what people see of the states of a step.
var marks = map[stepState]string{stepOK: "ok", stepWarning: "warning", stepFailed: "FAIL", stepSkipped: "skipped"}

// writeText prints the diagnosis for people: a line for each step, and below it
// what to do.
func (d diagnosis) writeText(w io.Writer) error {
	var b strings.Builder
	well := 0
	printed := map[string]string{} // credentials, with the identity that needs them too
	for _, found := range d.Identities {
		if found.OK {
			well++
		}
		fmt.Fprintf(&b, "identity %s\n", found.Name)
		for _, s := range found.Steps {
			s.writeText(&b)
		}
		if c := found.Credential; c != nil {
			key := asciiJSON([]any{c.Application, c.Issuer, c.Subject, c.Audiences})
			if other, ok := printed[key]; ok {
				fmt.Fprintf(&b, "\n  It needs the federated identity credential that %s needs.\n", other)
			} else {
				printed[key] = found.Name
				c.writeText(&b)
			}
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "%s, %d well\n", count(len(d.Identities), "identity", "identities"), well)
	_, err := io.WriteString(w, b.String())
	return err
}

func (s step) writeText(b *strings.Builder) {
	fmt.Fprintf(b, "  %-8s %-15s  %s\n", marks[s.State], s.Name, oneLine(s.Detail))
	const below = "                            "
	for _, note := range s.Notes {
		fmt.Fprintf(b, below+"note: %s\n", oneLine(note))
	}
	if s.Hint != "" {
		fmt.Fprintf(b, below+"hint: %s\n", oneLine(s.Hint))
	}
}

// count says how many of something there are.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

// oneLine keeps what others wrote, the network among them, to its line.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}

func (c *federatedCredential) writeText(b *strings.Builder) {
	what := "application"
	if c.Blueprint {
		what = "agent identity blueprint"
	}
	fmt.Fprintf(b, "\n  The federated identity credential that %s %s needs in tenant %s:\n\n", what, c.Application, c.tenant)
	fmt.Fprintf(b, "    issuer    %s\n    subject   %s\n    audience  %s\n\n", quoteClaim(c.Issuer), quoteClaim(c.Subject), quoteClaim(c.Audiences[0]))
	fmt.Fprintf(b, "  Whatever you make it with, the three are compared letter by letter: %s\n", c.Page)
	for _, form := range []struct{ name, text string }{
		{"Azure CLI", c.Az}, {"Terraform", c.Terraform}, {"Bicep", c.Bicep},
		{"Microsoft Graph", c.Graph.Method + " " + c.Graph.URL + "\n" + asciiJSON(c.Graph.Body) + "\n"},
	} {
		fmt.Fprintf(b, "\n  # %s\n", form.name)
		for line := range strings.SplitSeq(strings.TrimSuffix(form.text, "\n"), "\n") {
			b.WriteString(strings.TrimRight("  "+line, " ") + "\n")
		}
	}
}
