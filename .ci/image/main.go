// Command image builds the container images of credfree without a container
// runtime: a static binary, root certificates and nothing else, for each
// platform, with a software bill of materials. The same source, Go and version
// give the same digests.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "error: "+err.Error())
		os.Exit(1)
	}
}

// settings are the command's flags.
type settings struct {
	source    string // root of the repository
	out       string // folder for the results
	name      string // of the image, without tag
	version   string
	revision  string // of the source
	created   time.Time
	platforms []string // os/arch
	archive   bool     // also one docker archive per platform
	push      bool     // to the registry in name
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	var s settings
	flags.StringVar(&s.source, "source", ".", "root of the repository")
	flags.StringVar(&s.out, "out", "", "folder for the results (required)")
	flags.StringVar(&s.name, "name", "ghcr.io/credfree/credfree", "name of the image, without tag")
	flags.StringVar(&s.version, "version", "0.0.0-dev", "version, which is the tag too")
	flags.StringVar(&s.revision, "revision", "", "commit of the source")
	created := flags.String("created", "1970-01-01T00:00:00Z", "time in the image (RFC 3339); the commit's, to be reproducible")
	platforms := flags.String("platforms", "linux/amd64,linux/arm64", "platforms, separated by commas")
	flags.BoolVar(&s.archive, "archive", false, "also write one archive per platform, for docker load and ctr images import")
	flags.BoolVar(&s.push, "push", false, "push the index, its images and their bills of materials; credentials are those of docker login")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || s.out == "" {
		return errors.New("usage: image --out FOLDER [flags], and no arguments")
	}
	var err error
	if s.created, err = time.Parse(time.RFC3339, *created); err != nil {
		return fmt.Errorf("--created: %w", err)
	}
	s.platforms = strings.Split(*platforms, ",")
	if s.out, err = filepath.Abs(s.out); err != nil {
		return err
	}
	if err := os.MkdirAll(s.out, 0o755); err != nil {
		return err
	}
	return s.build(ctx, stdout)
}
