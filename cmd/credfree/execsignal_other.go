//go:build !unix

package main

import "os"

// passedOn are the signals that a command gets from its starter.
var passedOn = []os.Signal{os.Interrupt}

func sentByTerminal(os.Signal) bool { return false }
