package main

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/credfree/credfree/broker/review"
)

// readLog adds one audit log to the review. A compressed one that ends early,
// as while it is being written, is warned about; what it has is counted.
func readLog(c *cli.Context, stderr io.Writer, r *review.Review, path string) error {
	log, err := openLog(c, path)
	if err != nil {
		return fail(exitError, fmt.Errorf("the audit log %s cannot be read: %w", path, err), "name a file that credfree serve --audit-log has written")
	}
	defer log.Close()
	err = r.Read(log)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		fmt.Fprintf(stderr, "warning: %s ends early, and what is missing was not counted\n", path)
		return nil
	}
	if err != nil {
		return fail(exitError, fmt.Errorf("the audit log %s cannot be read to its end: %w", path, err), "a review of a part would take what it does not see for unused")
	}
	return nil
}

func openLog(c *cli.Context, path string) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(c.App.Reader), nil
	}
	file, err := os.Open(path)
	if err != nil || !strings.HasSuffix(path, ".gz") {
		return file, err
	}
	text, err := gzip.NewReader(file)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return compressed{text, file}, nil
}

// compressed is a file that is read through a decompressor.
type compressed struct {
	*gzip.Reader
	file *os.File
}

// Close closes both.
func (c compressed) Close() error { return errors.Join(c.Reader.Close(), c.file.Close()) }
