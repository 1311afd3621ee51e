// SPDX-License-Identifier: Apache-2.0

//go:build tools

// Package tools keeps the commands built here in go.mod.
package tools

import (
	_ "go.etcd.io/etcd/server/v3"
)
