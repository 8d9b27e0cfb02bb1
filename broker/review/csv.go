package review

import (
	"encoding/csv"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// WriteCSV writes one row per agent and right, for spreadsheets; an agent that
// has no right has one row. Cells that a spreadsheet would take for a formula
// begin with an apostrophe.
func (r *Report) WriteCSV(w io.Writer) error {
	rows := csv.NewWriter(w)
	write := func(cells ...string) error {
		for i := range cells {
			cells[i] = defuse(cells[i])
		}
		return rows.Write(cells)
	}
	if err := write("agent", "in_policy", "owner", "expires", "blocked", "agent_requests", "agent_last", "users",
		"flow", "scope", "state", "rule", "issued", "first", "last", "not_issued"); err != nil {
		return err
	}
	for _, a := range r.Agents {
		head := []string{a.Name, strconv.FormatBool(a.InPolicy), a.Owner, a.Expires, strconv.FormatBool(a.Blocked),
			strconv.FormatInt(a.Requests.Count, 10), timeText(a.Requests.Last), strconv.Itoa(a.UserCount)}
		if len(a.Rights) == 0 {
			if err := write(slices.Concat(head, make([]string, 8))...); err != nil {
				return err
			}
		}
		for _, right := range a.Rights {
			row := []string{flow(right.OnBehalfOf), right.Scope, string(right.State), right.Rule,
				strconv.FormatInt(right.Count, 10), timeText(right.First), timeText(right.Last), strconv.FormatInt(right.NotIssued, 10)}
			if err := write(slices.Concat(head, row)...); err != nil {
				return err
			}
		}
	}
	rows.Flush()
	return rows.Error()
}

// defuse keeps a spreadsheet from taking text for a formula.
func defuse(cell string) string {
	if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
		return "'" + cell
	}
	return cell
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
