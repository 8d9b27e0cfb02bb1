// Command emulator starts the emulator for clients in other languages. It
// prints one line of JSON, a [world.World], and runs until its standard input
// is closed.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/credfree/credfree/exchange/entratest/conformance/world"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "emulator:", err)
		os.Exit(1)
	}
}

func run() error {
	w, err := world.Start()
	if err != nil {
		return err
	}
	err = json.NewEncoder(os.Stdout).Encode(w)
	if err == nil {
		_, err = io.Copy(io.Discard, os.Stdin)
	}
	return errors.Join(err, w.Close())
}
