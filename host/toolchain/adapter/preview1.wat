;; WASI preview 1 for policies: `wasi_snapshot_preview1` as C's and Go's libraries call it, made of nothing but
;; `witgate:policy`, so that a component has no WASI import at all. There are no files, arguments, variables or
;; sockets; clocks and chance are the gateway's; what is written to any descriptor goes to the policy's log.
;;
;; While "paused" nothing of the gateway may be called: Go's collector runs while values are being lowered into
;; the guest, where the component model forbids calls out, and looks at the clock there. It gets the last time
;; again, chance from a generator that the last real draw seeded, and its output is dropped.
;;
;; The encoder drops each function that a guest does not import.
(module
  (import "env" "memory" (memory 0))
  (import "witgate:policy/env@0.1.0" "unix-nanos" (func $unix_nanos (result i64)))
  (import "witgate:policy/env@0.1.0" "monotonic-nanos" (func $monotonic_nanos (result i64)))
  (import "witgate:policy/env@0.1.0" "random-u64" (func $random_u64 (result i64)))
  (import "witgate:policy/log@0.1.0" "print" (func $print (param $text i32) (param $len i32)))

  (global $is_paused (mut i32) (i32.const 0))
  (global $unix_seen (mut i64) (i64.const 0))
  (global $monotonic_seen (mut i64) (i64.const 0))
  (global $chance (mut i64) (i64.const 0x2545f4914f6cdd1d))

  ;; Go's support module says so around each of its allocations.
  (func (export "adapter_monotonic_clock_set_paused") (param $pause i32)
    local.get $pause
    global.set $is_paused)

  (func $now (param $clock i32) (result i64)
    (if (global.get $is_paused) (then nop)
      (else
        (if (i32.eqz (local.get $clock))
          (then (global.set $unix_seen (call $unix_nanos)))
          (else (global.set $monotonic_seen (call $monotonic_nanos))))))
    (select (global.get $monotonic_seen) (global.get $unix_seen) (local.get $clock)))

  (func (export "clock_time_get") (param $clock i32) (param $precision i64) (param $time i32) (result i32)
    (i64.store (local.get $time) (call $now (local.get $clock)))
    (i32.const 0))
  (func (export "clock_res_get") (param $clock i32) (param $resolution i32) (result i32)
    (i64.store (local.get $resolution) (i64.const 1))
    (i32.const 0))

  ;; Eight bytes of chance: the gateway's, or a step of xorshift while that may not be asked.
  (func $draw (result i64)
    (local $x i64)
    (if (i32.eqz (global.get $is_paused))
      (then
        (local.set $x (call $random_u64))
        (global.set $chance (i64.or (local.get $x) (i64.const 1)))
        (return (local.get $x))))
    (local.set $x (global.get $chance))
    (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 12))))
    (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 25))))
    (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 27))))
    (global.set $chance (local.get $x))
    (local.get $x))

  (func (export "random_get") (param $at i32) (param $len i32) (result i32)
    (local $end i32) (local $word i64)
    (local.set $end (i32.add (local.get $at) (local.get $len)))
    (block $done
      (loop $words
        (br_if $done (i32.lt_u (i32.sub (local.get $end) (local.get $at)) (i32.const 8)))
        (i64.store (local.get $at) (call $draw))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (br $words)))
    (if (i32.ne (local.get $at) (local.get $end)) (then (local.set $word (call $draw))))
    (block $done
      (loop $bytes
        (br_if $done (i32.eq (local.get $at) (local.get $end)))
        (i64.store8 (local.get $at) (local.get $word))
        (local.set $word (i64.shr_u (local.get $word) (i64.const 8)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $bytes)))
    (i32.const 0))

  ;; A vector of (pointer, length) pairs; the gateway makes lines of what is printed, and text of what is none.
  (func (export "fd_write") (param $fd i32) (param $vector i32) (param $count i32) (param $written i32) (result i32)
    (local $sum i32) (local $len i32)
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $count)))
        (local.set $len (i32.load offset=4 (local.get $vector)))
        (if (i32.eqz (global.get $is_paused))
          (then (call $print (i32.load (local.get $vector)) (local.get $len))))
        (local.set $sum (i32.add (local.get $sum) (local.get $len)))
        (local.set $vector (i32.add (local.get $vector) (i32.const 8)))
        (local.set $count (i32.sub (local.get $count) (i32.const 1)))
        (br $next)))
    (i32.store (local.get $written) (local.get $sum))
    (i32.const 0))

  ;; Nothing sleeps: the first thing that is waited for has happened.
  (func (export "poll_oneoff") (param $asked i32) (param $events i32) (param $count i32) (param $ready i32) (result i32)
    (i64.store (local.get $events) (i64.load (local.get $asked)))
    (i32.store offset=8 (local.get $events) (i32.const 0))
    (i32.store offset=12 (local.get $events) (i32.const 0))
    (i32.store (local.get $ready) (i32.const 1))
    (i32.const 0))
  (func (export "sched_yield") (result i32) (i32.const 0))
  (func (export "proc_exit") (param $code i32) unreachable)

  (func $no_strings (param $count i32) (param $bytes i32) (result i32)
    (i32.store (local.get $count) (i32.const 0))
    (i32.store (local.get $bytes) (i32.const 0))
    (i32.const 0))
  (func (export "args_sizes_get") (param i32 i32) (result i32) (call $no_strings (local.get 0) (local.get 1)))
  (func (export "environ_sizes_get") (param i32 i32) (result i32) (call $no_strings (local.get 0) (local.get 1)))
  (func (export "args_get") (param i32 i32) (result i32) (i32.const 0))
  (func (export "environ_get") (param i32 i32) (result i32) (i32.const 0))

  ;; The standard streams are there, so that libraries write to them: a character device, which is written line by
  ;; line. Any other descriptor is a bad one (8), and what needs a path is not supported (58).
  (func (export "fd_fdstat_get") (param $fd i32) (param $stat i32) (result i32)
    (if (i32.gt_u (local.get $fd) (i32.const 2)) (then (return (i32.const 8))))
    (i64.store (local.get $stat) (i64.const 2))
    (i64.store offset=8 (local.get $stat) (i64.const 64)) ;; the right to write
    (i64.store offset=16 (local.get $stat) (i64.const 0))
    (i32.const 0))
  (func (export "fd_fdstat_set_flags") (param i32 i32) (result i32) (i32.const 8))
  (func (export "fd_close") (param i32) (result i32) (i32.const 8))
  (func (export "fd_read") (param i32 i32 i32 i32) (result i32) (i32.const 8))
  (func (export "fd_seek") (param i32 i64 i32 i32) (result i32) (i32.const 8))
  (func (export "fd_filestat_get") (param i32 i32) (result i32) (i32.const 8))
  (func (export "fd_prestat_get") (param i32 i32) (result i32) (i32.const 8))
  (func (export "fd_prestat_dir_name") (param i32 i32 i32) (result i32) (i32.const 8))
  (func (export "path_open") (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32) (i32.const 58))
  (func (export "fd_advise") (param i32 i64 i64 i32) (result i32) (i32.const 8))
  (func (export "fd_allocate") (param i32 i64 i64) (result i32) (i32.const 8))
  (func (export "fd_datasync") (param i32) (result i32) (i32.const 8))
  (func (export "fd_fdstat_set_rights") (param i32 i64 i64) (result i32) (i32.const 8))
  (func (export "fd_filestat_set_size") (param i32 i64) (result i32) (i32.const 8))
  (func (export "fd_filestat_set_times") (param i32 i64 i64 i32) (result i32) (i32.const 8))
  (func (export "fd_pread") (param i32 i32 i32 i64 i32) (result i32) (i32.const 8))
  (func (export "fd_pwrite") (param i32 i32 i32 i64 i32) (result i32) (i32.const 8))
  (func (export "fd_readdir") (param i32 i32 i32 i64 i32) (result i32) (i32.const 8))
  (func (export "fd_renumber") (param i32 i32) (result i32) (i32.const 8))
  (func (export "fd_sync") (param i32) (result i32) (i32.const 8))
  (func (export "fd_tell") (param i32 i32) (result i32) (i32.const 8))
  (func (export "path_create_directory") (param i32 i32 i32) (result i32) (i32.const 58))
  (func (export "path_filestat_get") (param i32 i32 i32 i32 i32) (result i32) (i32.const 58))
  (func (export "path_filestat_set_times") (param i32 i32 i32 i32 i64 i64 i32) (result i32) (i32.const 58))
  (func (export "path_link") (param i32 i32 i32 i32 i32 i32 i32) (result i32) (i32.const 58))
  (func (export "path_readlink") (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 58))
  (func (export "path_remove_directory") (param i32 i32 i32) (result i32) (i32.const 58))
  (func (export "path_rename") (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 58))
  (func (export "path_symlink") (param i32 i32 i32 i32 i32) (result i32) (i32.const 58))
  (func (export "path_unlink_file") (param i32 i32 i32) (result i32) (i32.const 58))
  (func (export "proc_raise") (param i32) (result i32) (i32.const 58))
  (func (export "sock_accept") (param i32 i32 i32) (result i32) (i32.const 58))
  (func (export "sock_recv") (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 58))
  (func (export "sock_send") (param i32 i32 i32 i32 i32) (result i32) (i32.const 58))
  (func (export "sock_shutdown") (param i32 i32) (result i32) (i32.const 58)))
