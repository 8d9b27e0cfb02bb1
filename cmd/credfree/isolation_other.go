//go:build !linux

package main

func makeUndumpable() error { return errNotLinux }

func brokerUndumpable() error { return errNotLinux }

func ownUID() uint32 { return ^uint32(0) }

func visibleUIDs() (map[uint32]bool, error) { return nil, errNotLinux }

func ownGroups() []uint32 { return nil }

func factOf(path string) fileFact { return fileFact{path: path, err: errNotLinux} }

func ownPrivileges() privileges { return privileges{err: errNotLinux} }
