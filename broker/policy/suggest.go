package policy

import (
	"slices"
	"strings"
)

// DidYouMean is the hint for a name that is none of the known ones: it names the
// nearest of them, or else all.
func DidYouMean(name string, known []string) string {
	if near := nearest(name, known); near != "" {
		return "did you mean " + near + "?"
	}
	switch {
	case len(known) == 0:
		return "none is defined"
	case len(known) > maxListed:
		return "known are " + strings.Join(known[:maxListed], ", ") + ", ..."
	}
	return "known are " + strings.Join(slices.Sorted(slices.Values(known)), ", ")
}

// maxListed is enough for the fields of anything, and cuts what users name.
const maxListed = 20

// A file may hold thousands of wrong names beside thousands of right ones.
const (
	maxSuggestFrom  = 100 // names
	maxSuggestBytes = 64  // of a name; names of the file have 63 at most
)

// nearest returns the known name with the fewest edits from name, the first
// one in alphabetical order among equals, or "" when none is near enough to be
// a slip of the hand. Case and word separators do not count as edits.
func nearest(name string, known []string) string {
	if name == "" || len(name) > maxSuggestBytes || len(known) > maxSuggestFrom {
		return ""
	}
	best, bestEdits := "", 0
	for _, candidate := range known {
		if len(candidate) > maxSuggestBytes {
			continue
		}
		edits := editDistance(folded(name), folded(candidate))
		if edits <= max(1, len(candidate)/3) && (best == "" || edits < bestEdits || edits == bestEdits && candidate < best) {
			best, bestEdits = candidate, edits
		}
	}
	return best
}

var separators = strings.NewReplacer("_", "", "-", "")

func folded(name string) string { return separators.Replace(strings.ToLower(name)) }

// editDistance is Levenshtein's, in bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substituted := diagonal
			if a[i] != b[j] {
				substituted++
			}
			diagonal = row[j+1]
			row[j+1] = min(substituted, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
