package policy

import "strconv"

const maxQuoted = 80

// quote makes text that somebody else wrote fit to stand in a hint or a
// message: printable ASCII, in quotation marks, and cut.
func quote(s string) string { return `"` + clip(s) + `"` }

// clip is quote without the quotation marks.
func clip(s string) string {
	if len(s) > maxQuoted {
		s = s[:maxQuoted+1] // one more, so that the cut below shows
	}
	s = strconv.QuoteToASCII(s)
	s = s[1 : len(s)-1]
	if len(s) > maxQuoted {
		return s[:maxQuoted] + "..."
	}
	return s
}

// printable reports whether s is printable ASCII without spaces.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
