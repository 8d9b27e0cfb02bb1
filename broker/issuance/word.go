package issuance

import "strings"

const (
	withheld = "(withheld)"

	maxWordBytes = 128
	// maxRandom is how long a run of mixed letters and digits may be: ids have
	// separators, or one case; keys have neither.
	maxRandom = 28
)

// Word makes what the caller says of itself fit to be recorded. It is anybody's
// text: what is no plain id or name, is too long, holds the key that it presented,
// or looks like a token, a key or an e-mail address is replaced by a fixed word.
func Word(said, key string) string {
	if said == "" || plain(said) && (key == "" || !strings.Contains(said, key)) {
		return said
	}
	return withheld
}

func plain(said string) bool {
	if len(said) > maxWordBytes || strings.Contains(said, "eyJ") {
		return false
	}
	run, lower, upper, digit := 0, false, false, false
	for _, c := range []byte(said) {
		switch {
		case 'a' <= c && c <= 'z':
			lower = true
		case 'A' <= c && c <= 'Z':
			upper = true
		case '0' <= c && c <= '9':
			digit = true
		case strings.IndexByte(" -._:/", c) >= 0:
			run, lower, upper, digit = 0, false, false, false
			continue
		default:
			return false
		}
		if run++; run > maxRandom && lower && upper && digit {
			return false
		}
	}
	return true
}
