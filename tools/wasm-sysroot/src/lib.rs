//! Nothing: building it builds the standard library that policies are compiled against.

#![no_std]
