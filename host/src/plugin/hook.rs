//! A hook's typed function: checked once for each plugin, then called with borrowed values.
//!
//! `exports` finds hooks and `instance` calls them. The check and the unchecked use of it stand side
//! by side here.

use super::bindings::Direction;
use super::block::{Given, Note};
use std::marker::PhantomData;
use wasmtime::component::{ComponentNamedList, Func, Lift, Lower, ResourceAny, TypedFunc};
use wasmtime::{AsContext, Result};

/// A function of a guest with the parameter type `P` (any lifetime of it) and the result `R`.
pub struct Hook<P, R> {
    func: Func,
    _types: PhantomData<fn(P) -> R>,
}

impl<P, R> Clone for Hook<P, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P, R> Copy for Hook<P, R> {}

/// Parameters whose lifetime a call chooses; `At<'a>` differs from `Self` in lifetimes only.
pub trait Parameters: ComponentNamedList + Lower + 'static {
    type At<'a>: ComponentNamedList + Lower;
}

/// Values in the order of a plan's reads.
pub type Values<'a> = &'a [Option<&'a str>];

impl Parameters for (Given<'static>,) {
    type At<'a> = (Given<'a>,);
}
impl Parameters for (Given<'static>, Note<'static>) {
    type At<'a> = (Given<'a>, Note<'a>);
}
impl Parameters for (&'static [u8], &'static [u8]) {
    type At<'a> = (&'a [u8], &'a [u8]);
}
impl Parameters for (Direction, &'static [u8]) {
    type At<'a> = (Direction, &'a [u8]);
}
impl Parameters for (ResourceAny, &'static [u8], bool) {
    type At<'a> = (ResourceAny, &'a [u8], bool);
}
impl Parameters for (&'static [Vec<Option<String>>],) {
    type At<'a> = (&'a [Vec<Option<String>>],);
}
impl Parameters for (&'static str,) {
    type At<'a> = (&'a str,);
}
impl Parameters for () {
    type At<'a> = ();
}

impl<P, R> Hook<P, R>
where
    P: Parameters,
    R: ComponentNamedList + Lift + 'static,
{
    /// # Errors
    /// If the function's type is another; the text says how it differs.
    pub fn check(func: Func, store: impl AsContext) -> Result<Hook<P, R>> {
        func.typed::<P, R>(store)?;
        Ok(Hook { func, _types: PhantomData })
    }

    /// # Safety
    /// `func` must have the type `(P, R)`, as `check` would find.
    #[expect(unsafe_code, reason = "its caller must know the type")]
    pub unsafe fn unchecked(func: Func) -> Hook<P, R> {
        Hook { func, _types: PhantomData }
    }

    pub fn typed<'a>(&self) -> TypedFunc<P::At<'a>, R> {
        #[expect(unsafe_code, reason = "wasmtime's check would be repeated for each lifetime, at each call")]
        // SAFETY: `check`, or whoever called `unchecked`, made sure that `func` has the type `(P, R)`, and `P::At` differs from
        // `P` in lifetimes only: each `impl Parameters` above says the same type twice.
        unsafe {
            TypedFunc::new_unchecked(self.func)
        }
    }
}
