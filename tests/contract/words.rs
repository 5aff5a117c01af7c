//! Types and signatures as WIT writes them.

use wit_parser::{Function, Handle, Resolve, Type, TypeDefKind};

/// `name(parameter: type, …) -> type`, without a method's own resource.
pub fn signature(resolve: &Resolve, function: &Function) -> String {
    let is_self = |name: &str| function.kind.resource().is_some() && name == "self";
    let parameters: Vec<_> = function
        .params
        .iter()
        .filter(|parameter| !is_self(&parameter.name))
        .map(|parameter| format!("{}: {}", parameter.name, ty(resolve, &parameter.ty)))
        .collect();
    let name = match function.item_name() {
        name if name.starts_with('[') => "new",
        name => name,
    };
    let result = function.result.as_ref().map(|result| format!(" -> {}", ty(resolve, result)));
    format!("{name}({}){}", parameters.join(", "), result.unwrap_or_default())
}

pub fn ty(resolve: &Resolve, ty: &Type) -> String {
    match ty {
        Type::Id(id) => match &resolve.types[*id] {
            named if named.name.is_some() => named.name.clone().unwrap(),
            unnamed => kind(resolve, &unnamed.kind),
        },
        Type::String => "string".into(),
        Type::Bool => "bool".into(),
        Type::Char => "char".into(),
        Type::U8 => "u8".into(),
        Type::U16 => "u16".into(),
        Type::U32 => "u32".into(),
        Type::U64 => "u64".into(),
        Type::S8 => "s8".into(),
        Type::S16 => "s16".into(),
        Type::S32 => "s32".into(),
        Type::S64 => "s64".into(),
        Type::F32 => "f32".into(),
        Type::F64 => "f64".into(),
        Type::ErrorContext => "error-context".into(),
    }
}

pub fn kind(resolve: &Resolve, kind: &TypeDefKind) -> String {
    match kind {
        TypeDefKind::List(element) => format!("list<{}>", ty(resolve, element)),
        TypeDefKind::Option(some) => format!("option<{}>", ty(resolve, some)),
        TypeDefKind::Tuple(tuple) => {
            let parts: Vec<_> = tuple.types.iter().map(|part| ty(resolve, part)).collect();
            format!("tuple<{}>", parts.join(", "))
        }
        TypeDefKind::Result(result) => {
            let side = |side: &Option<Type>| side.as_ref().map_or("_".into(), |side| ty(resolve, side));
            format!("result<{}, {}>", side(&result.ok), side(&result.err))
        }
        TypeDefKind::Handle(Handle::Own(id) | Handle::Borrow(id)) => ty(resolve, &Type::Id(*id)),
        TypeDefKind::Type(aliased) => ty(resolve, aliased),
        other => panic!("the contract has no {other:?}"),
    }
}
