package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/credfree/credfree/broker/issuance"
)

func auditFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "audit-log", Usage: "append the audit log to `FILE` instead; SIGHUP opens it anew, after it was rotated", EnvVars: []string{"CREDFREE_AUDIT_LOG"}},
		&cli.StringFlag{Name: "audit-format", Usage: "`FORMAT` of the audit lines: native or ocsf", Value: string(issuance.Native), EnvVars: []string{"CREDFREE_AUDIT_FORMAT"}},
		&cli.BoolFlag{Name: "audit-chain", Usage: "number and seal the audit lines, for credfree audit verify", EnvVars: []string{"CREDFREE_AUDIT_CHAIN"}},
		&cli.StringFlag{Name: "audit-chain-key-file", Usage: "`FILE` with the key of the seals, which then nobody else can make", EnvVars: []string{"CREDFREE_AUDIT_CHAIN_KEY_FILE"}},
	}
}

// auditLog is where the audit lines go.
type auditLog struct {
	sink   io.Writer // the recorder asks it itself how it is, so nothing may wrap it
	format issuance.Format
	file   *issuance.File  // nil: standard output
	chain  *issuance.Chain // nil: none
	path   string
	keyed  bool
}

// openAuditLog opens what the flags name.
func openAuditLog(c *cli.Context, stdout io.Writer) (*auditLog, error) {
	a := &auditLog{sink: stdout, format: issuance.Format(c.String("audit-format")), path: c.String("audit-log")}
	if a.format != issuance.Native && a.format != issuance.OCSF {
		return nil, fail(exitUsage, fmt.Errorf("there is no audit format %q", a.format), "use --audit-format native or ocsf")
	}
	keyFile := c.String("audit-chain-key-file")
	if keyFile != "" && !c.Bool("audit-chain") {
		return nil, fail(exitUsage, errors.New("--audit-chain-key-file is for a chain"), "add --audit-chain")
	}
	var key []byte
	if keyFile != "" {
		var err error
		if key, err = readKeyFile(keyFile); err != nil {
			return nil, err
		}
		a.keyed = true
	}
	if a.path != "" {
		var err error
		if a.file, err = issuance.OpenFile(a.path); err != nil {
			return nil, fail(exitError, fmt.Errorf("the audit log cannot be opened: %w", err), "name a file the broker may append to with --audit-log")
		}
		a.sink = a.file
	}
	if !c.Bool("audit-chain") {
		return a, nil
	}
	var err error
	if a.chain, err = issuance.NewChain(issuance.ChainConfig{Sink: a.sink, Key: key, Format: a.format}); err != nil {
		return nil, errors.Join(fail(exitError, fmt.Errorf("the chain of the audit log cannot be continued: %w", err), "the broker has to be able to read the file, too, and to have it alone"), a.close())
	}
	a.sink = a.chain
	_ = a.chain.Begin() // when it cannot, it does so before the next line, or there is no line
	return a, nil
}

// reopen goes over to the file that the path names now.
func (a *auditLog) reopen() error {
	switch {
	case a.file == nil:
		return nil
	case a.chain != nil:
		return a.chain.Reopen()
	}
	return a.file.Reopen()
}

func (a *auditLog) close() error {
	if a.file == nil {
		return nil
	}
	return a.file.Close()
}

// describe says where the lines go, and how far the chain has come.
func (a *auditLog) describe() string {
	text := "standard output"
	if a.file != nil {
		text = "file " + a.path
	}
	if a.format != issuance.Native {
		text += ", " + string(a.format)
	}
	if a.chain != nil {
		seq, head := a.chain.Head()
		text += fmt.Sprintf(", chain at line %d with head %s", seq, head)
	}
	return text
}

// watchAudit opens the audit log anew on SIGHUP, until ctx ends.
func (s *service) watchAudit(ctx context.Context, a *auditLog) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			s.reopenAudit(a)
		}
	}
}

func (s *service) reopenAudit(a *auditLog) {
	if a.file == nil {
		return
	}
	if err := a.reopen(); err != nil {
		everyTime(s.cfg.log).Error("the audit log cannot be opened anew: there are no tokens until it can", "err", err.Error())
		return
	}
	s.cfg.log.Info("audit log opened anew", "audit", a.describe())
}

// minKeyBytes is the shortest key that is taken: 128 bits.
const minKeyBytes = 16

// readKeyFile reads a key for keyed hashes: all of the file, but for line ends
// at its end.
func readKeyFile(path string) ([]byte, error) {
	key, err := os.ReadFile(path)
	if err != nil {
		return nil, fail(exitError, fmt.Errorf("the key cannot be read: %w", err), "make one with: openssl rand -hex 32 > "+path)
	}
	key = bytes.TrimRight(key, "\r\n")
	if len(key) < minKeyBytes {
		return nil, fail(exitError, fmt.Errorf("the key in %s has less than %d bytes", path, minKeyBytes), "make one with: openssl rand -hex 32 > "+path)
	}
	return key, nil
}
