package policy

// Recording says how issuances are recorded.
type Recording struct {
	// BestEffort lets tokens go out although their audit line cannot be written.
	BestEffort bool
	// HashedUsers keeps tenants and object ids of users out of every record: a
	// keyed hash stands for the two.
	HashedUsers  bool
	UsersKeyFile string // key of the hashes; "" for one that lasts as long as the program
}

const (
	auditRequired   = "required"
	auditBestEffort = "best-effort"
	usersPlain      = "plain"
	usersHashed     = "hashed"
)

var (
	auditForm      = oneOf(auditRequired, auditBestEffort)
	usersShownForm = oneOf(usersPlain, usersHashed)
)

func (r *reader) recording(fields map[string]place) Recording {
	var rec Recording
	if at := fields["audit"]; at.present() {
		rec.BestEffort = r.either(at, auditRequired, auditBestEffort)
		switch {
		case rec.BestEffort && r.options.Ceiling != nil:
			rec.BestEffort = false
			r.warning(at, "above the ceiling: audit: best-effort has no effect", "remove the line: under a ceiling no token goes out unrecorded")
		case rec.BestEffort:
			r.warning(at, "tokens go out although no audit line can be written", "remove the line: then there is no token without one")
		}
	}
	if at := fields["users"]; at.present() {
		rec.HashedUsers = r.either(at, usersPlain, usersHashed)
	}
	file := fields["usersKeyFile"]
	switch {
	case file.present() && !rec.HashedUsers:
		r.problem(file, "usersKeyFile is for users: hashed", "add users: hashed, or remove the line")
	case file.present():
		rec.UsersKeyFile, _ = r.filePath(file)
	case rec.HashedUsers:
		r.warning(fields["users"], "the hashes of users change with each start", "add usersKeyFile with a key: openssl rand -hex 32")
	}
	return rec
}

// either reads one of two words, and reports whether it is the second.
func (r *reader) either(at place, first, second string) bool {
	text, ok := r.text(at)
	if ok && text != first && text != second {
		r.problem(at, "want "+first+" or "+second+", got "+quote(text), "write one of the two, or remove the line for "+first)
	}
	return text == second
}
