//! The services, messages and enums of the contract, from the descriptor set that the program contains.

use std::{collections::HashMap, fmt::Write as _};

use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet, ServiceDescriptorProto,
    field_descriptor_proto::{Label, Type},
};
use tenant_gateway::grpc::pb::DESCRIPTORS;

use crate::markdown::{anchor, cell, prose};

const PACKAGE: &str = "tenantgateway.v1";

// Numbers of fields in descriptor.proto. Paths of comments consist of them and of indexes.
const FILE_MESSAGES: i32 = 4;
const FILE_ENUMS: i32 = 5;
const FILE_SERVICES: i32 = 6;
const SERVICE_METHODS: i32 = 2;
const MESSAGE_FIELDS: i32 = 2;
const MESSAGE_ENUMS: i32 = 4;
const MESSAGE_MESSAGES: i32 = 3;
const ENUM_VALUES: i32 = 2;

/// A file of the contract with its comments by path.
struct File {
    file: FileDescriptorProto,
    comments: HashMap<Vec<i32>, String>,
}

/// The rendered entries, in three groups.
#[derive(Default)]
struct Groups {
    services: String,
    messages: Vec<(String, String)>,
    enums: Vec<(String, String)>,
}

pub(crate) fn render() -> String {
    let mut groups = Groups::default();
    for file in files() {
        for (index, service) in file.file.service.iter().enumerate() {
            file.add_service(&mut groups, service, &[FILE_SERVICES, number(index)]);
        }
        for (index, message) in file.file.message_type.iter().enumerate() {
            file.add_message(&mut groups, message, "", &[FILE_MESSAGES, number(index)]);
        }
        for (index, enumeration) in file.file.enum_type.iter().enumerate() {
            file.add_enum(&mut groups, enumeration, "", &[FILE_ENUMS, number(index)]);
        }
    }
    let mut page = format!("## Services\n\n{}", groups.services);
    for (title, mut entries) in [("Messages", groups.messages), ("Enums", groups.enums)] {
        entries.sort();
        write!(page, "## {title}\n\n").unwrap();
        page.extend(entries.into_iter().map(|(_, entry)| entry));
    }
    page
}

/// The values of an enum of the contract, each with its comment.
pub(crate) fn enum_values(name: &str) -> Vec<(String, String)> {
    for file in files() {
        for (index, enumeration) in file.file.enum_type.iter().enumerate() {
            if enumeration.name() == name {
                return file.values(enumeration, &[FILE_ENUMS, number(index)]);
            }
        }
    }
    panic!("the contract has no enum {name}");
}

fn files() -> Vec<File> {
    let set = FileDescriptorSet::decode(DESCRIPTORS).expect("the program has a descriptor set");
    let ours = set.file.into_iter().filter(|file| file.package() == PACKAGE);
    ours.map(|file| {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        let comments = locations
            .filter_map(|location| {
                let comment = location.leading_comments.as_deref()?;
                Some((location.path.clone(), paragraphs(comment)))
            })
            .collect();
        File { file, comments }
    })
    .collect()
}

impl File {
    fn comment(&self, path: &[i32]) -> &str {
        let name = self.file.name();
        let comment = self.comments.get(path).map(String::as_str);
        comment.unwrap_or_else(|| panic!("{name} has no comment at {path:?}"))
    }

    fn add_service(&self, groups: &mut Groups, service: &ServiceDescriptorProto, path: &[i32]) {
        let name = service.name();
        let page = &mut groups.services;
        let comment = prose(self.comment(path));
        write!(page, "### {name}\n\n`{PACKAGE}.{name}`\n\n{comment}\n\n").unwrap();
        for (index, method) in service.method.iter().enumerate() {
            let request = message_link(method.input_type());
            let response = message_link(method.output_type());
            let stream = if method.server_streaming() { "stream of " } else { "" };
            let path = below(path, SERVICE_METHODS, index);
            write!(
                page,
                "#### {name}.{method}\n\n{request} → {stream}{response}\n\n{comment}\n\n",
                method = method.name(),
                comment = prose(self.comment(&path))
            )
            .unwrap();
        }
    }

    fn add_message(
        &self,
        groups: &mut Groups,
        message: &DescriptorProto,
        outer: &str,
        path: &[i32],
    ) {
        let name = format!("{outer}{}", message.name());
        let mut entry = format!("### {name}\n\n{}\n\n", prose(self.comment(path)));
        if !message.field.is_empty() {
            entry.push_str("| field | type | description |\n|---|---|---|\n");
        }
        for (index, field) in message.field.iter().enumerate() {
            let comment =
                cell(&self.comment(&below(path, MESSAGE_FIELDS, index)).replace("\n\n", " "));
            let kind = field_type(message, field);
            writeln!(entry, "| `{}` | {kind} | {comment} |", field.name()).unwrap();
        }
        entry.push('\n');
        groups.messages.push((name.clone(), entry));
        let outer = format!("{name}.");
        for (index, nested) in message.nested_type.iter().enumerate() {
            if !is_map_entry(nested) {
                self.add_message(groups, nested, &outer, &below(path, MESSAGE_MESSAGES, index));
            }
        }
        for (index, nested) in message.enum_type.iter().enumerate() {
            self.add_enum(groups, nested, &outer, &below(path, MESSAGE_ENUMS, index));
        }
    }

    fn add_enum(
        &self,
        groups: &mut Groups,
        enumeration: &EnumDescriptorProto,
        outer: &str,
        path: &[i32],
    ) {
        let name = format!("{outer}{}", enumeration.name());
        let mut entry = format!("### {name}\n\n{}\n\n", prose(self.comment(path)));
        entry.push_str("| value | meaning |\n|---|---|\n");
        for (value, comment) in self.values(enumeration, path) {
            writeln!(entry, "| `{value}` | {} |", cell(&comment)).unwrap();
        }
        entry.push('\n');
        groups.enums.push((name, entry));
    }

    fn values(&self, enumeration: &EnumDescriptorProto, path: &[i32]) -> Vec<(String, String)> {
        let values = enumeration.value.iter().enumerate();
        values
            .map(|(index, value)| {
                let comment = self.comment(&below(path, ENUM_VALUES, index)).replace("\n\n", " ");
                (value.name().to_owned(), comment)
            })
            .collect()
    }
}

fn number(index: usize) -> i32 {
    i32::try_from(index).expect("a descriptor has few entries")
}

fn below(path: &[i32], field: i32, index: usize) -> Vec<i32> {
    path.iter().copied().chain([field, number(index)]).collect()
}

/// Joins the lines of each paragraph of a comment.
fn paragraphs(comment: &str) -> String {
    let mut paragraphs = vec![Vec::new()];
    for line in comment.lines().map(str::trim) {
        if line.is_empty() {
            paragraphs.push(Vec::new());
        } else if let Some(paragraph) = paragraphs.last_mut() {
            paragraph.push(line);
        }
    }
    let texts = paragraphs.into_iter().filter(|lines| !lines.is_empty());
    texts.map(|lines| lines.join(" ")).collect::<Vec<_>>().join("\n\n")
}

/// A link to a message or enum of the contract, or the name of one of Google's.
fn message_link(full: &str) -> String {
    match full.trim_start_matches('.').strip_prefix(&format!("{PACKAGE}.")) {
        Some(name) => format!("[`{name}`](#{})", anchor(name)),
        None => format!("`{}`", full.trim_start_matches('.')),
    }
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(prost_types::MessageOptions::map_entry)
}

fn field_type(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let entry = message.nested_type.iter().find(|nested| {
        is_map_entry(nested) && field.type_name().ends_with(&format!(".{}", nested.name()))
    });
    if let Some([key, value]) = entry.map(|entry| entry.field.as_slice()) {
        return format!("map of {} to {}", single_type(key), single_type(value));
    }
    let single = single_type(field);
    if field.label() == Label::Repeated {
        return format!("repeated {single}");
    }
    if field.proto3_optional() {
        return format!("optional {single}");
    }
    let group = field.oneof_index.and_then(|index| usize::try_from(index).ok());
    match group.and_then(|index| message.oneof_decl.get(index)) {
        Some(group) => format!("{single}, one of `{}`", group.name()),
        None => single,
    }
}

fn single_type(field: &FieldDescriptorProto) -> String {
    let scalar = match field.r#type() {
        Type::Message | Type::Enum | Type::Group => return message_link(field.type_name()),
        Type::Double => "double",
        Type::Float => "float",
        Type::Int64 => "int64",
        Type::Uint64 => "uint64",
        Type::Int32 => "int32",
        Type::Uint32 => "uint32",
        Type::Fixed64 => "fixed64",
        Type::Fixed32 => "fixed32",
        Type::Sfixed64 => "sfixed64",
        Type::Sfixed32 => "sfixed32",
        Type::Sint64 => "sint64",
        Type::Sint32 => "sint32",
        Type::Bool => "bool",
        Type::String => "string",
        Type::Bytes => "bytes",
    };
    format!("`{scalar}`")
}

#[test]
fn lines_of_a_paragraph_are_joined() {
    assert_eq!(paragraphs(" One.\n Two.\n\n Three.\n"), "One. Two.\n\nThree.");
}
