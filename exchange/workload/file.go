package workload

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
)

// File reads the workload token from a file that the platform keeps fresh,
// such as a projected Kubernetes service account token. The file is read anew
// each time: kubelet replaces it at 80 % of its life.
type File struct {
	Path string // required
}

// Assertion implements Source.
func (f File) Assertion(ctx context.Context) (Assertion, error) {
	if err := ctx.Err(); err != nil {
		return Assertion{}, &Error{Problem: Unavailable, Message: "reading the workload token was given up", Err: err}
	}
	raw, err := readFile(f.Path, maxTokenBytes)
	switch {
	case errors.Is(err, errNotRegular):
		return Assertion{}, &Error{Problem: Malformed, Message: "the workload token " + f.Path + " is not a regular file", Hint: "name the token file itself"}
	case errors.Is(err, errTooLarge):
		return Assertion{}, &Error{Problem: Malformed, Message: "the file " + f.Path + " is larger than any workload token", Hint: "name the token file itself"}
	case err != nil:
		return Assertion{}, f.unavailable(err)
	case strings.TrimSpace(raw) == "": // not every platform renames a finished file into its place
		return Assertion{}, &Error{Problem: Unavailable, Message: "the workload token " + f.Path + " is empty", Hint: "the platform has not written it yet, or the path names another file"}
	}
	return Parse(raw)
}

var (
	errNotRegular = errors.New("it is not a regular file")
	errTooLarge   = errors.New("it is too large")
)

// readFile reads a regular file of at most most bytes.
func readFile(path string, most int64) (string, error) {
	// A named pipe would block the open, and with it every later exchange.
	if info, err := os.Stat(path); err != nil {
		return "", err
	} else if !info.Mode().IsRegular() {
		return "", errNotRegular
	}
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(io.LimitReader(file, most+1))
	if err := errors.Join(err, file.Close()); err != nil {
		return "", err
	}
	if int64(len(data)) > most {
		return "", errTooLarge
	}
	return string(data), nil
}

func (f File) unavailable(err error) error {
	hint := "check sources.*.file.path and the volume it is on"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		hint = "mount the projected service account token there, or correct sources.*.file.path (the Azure Workload Identity webhook sets AZURE_FEDERATED_TOKEN_FILE to the right one)"
	case errors.Is(err, fs.ErrPermission):
		hint = "let the broker's user read it (Kubernetes: fsGroup, or runAsUser of the broker)"
	}
	return &Error{Problem: Unavailable, Message: "the workload token " + f.Path + " cannot be read: " + reason(err), Hint: hint, Err: err}
}

// reason is the system's word without the path, which the message has already.
func reason(err error) string {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err.Error()
	}
	return err.Error()
}
