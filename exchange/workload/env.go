package workload

import (
	"cmp"
	"context"
	"os"
)

// Env reads the workload token from an environment variable, as build systems
// hand it out. The variable is read anew each time. What another process does
// to its own environment is never seen here, so the token lasts as long as the
// job that set it.
type Env struct {
	Variable string // required
	// Getenv reads a variable. Nil: os.Getenv.
	Getenv func(string) string

	hint string // what to do when it is not set; "" for the general one
}

// Assertion implements Source.
func (e Env) Assertion(ctx context.Context) (Assertion, error) {
	if err := ctx.Err(); err != nil {
		return Assertion{}, givenUp(err)
	}
	raw := getenv(e.Getenv, e.Variable)
	switch {
	case raw == "":
		hint := "set it for the broker: the job's definition asks the platform for the token and names the variable"
		return Assertion{}, unset(e.Variable, cmp.Or(e.hint, hint))
	case len(raw) > maxTokenBytes:
		return Assertion{}, &Error{Problem: Malformed, Message: "the variable " + quote(e.Variable) + " is larger than any workload token", Hint: "name the variable that holds the token itself"}
	}
	return Parse(raw)
}

func getenv(read func(string) string, name string) string {
	if read == nil {
		read = os.Getenv
	}
	return read(name)
}

// unset says that a variable which the platform sets is not there.
func unset(name, hint string) *Error {
	return &Error{Problem: Unavailable, Message: "the variable " + quote(name) + " is not set or empty", Hint: hint}
}

func givenUp(err error) *Error {
	return &Error{Problem: Unavailable, Message: "getting the workload token was given up", Hint: "the caller went away first; ask again", Err: err}
}
