# The commands of Vivado that package.tcl calls, as far as they can be known without it: each checks that what it is given
# exists and that the property is one of such an object, and everything is written to the file of the environment
# variable PACKAGED when the IP is saved: a line for each property, "object property value" with tabs between them.

array set properties {
    core {name version display_name description}
    bus {bus_type_vlnv abstraction_type_vlnv interface_mode slave_memory_map_ref}
    pin {physical_name}
    parameter {value}
    map {}
    block {range width usage}
    register {address_offset size access description}
    file {USED_IN file_type}
    fileset {top}
}
array set values {}
set objects [list fileset:sources]
set order {}

proc demand {object} {
    if {[lsearch -exact $::objects $object] < 0} { error "there is no object '$object'" }
}
proc add {object} {
    if {[lsearch -exact $::objects $object] >= 0} { error "there is '$object' already" }
    lappend ::objects $object
    return $object
}
proc kind {object} { return [lindex [split $object :] 0] }
proc path {object} { return [string range $object [expr {[string first : $object] + 1}] end] }
# The objects of a kind below another one, all or the one of this name; as in Vivado an empty answer is no error.
proc under {kind words} {
    set name *
    if {[lindex $words 0] ne "-of_objects"} { set words [lassign $words name] }
    lassign $words option parent
    if {$option ne "-of_objects"} { error "unknown option '$option'" }
    demand $parent
    set prefix [expr {[kind $parent] eq "core" ? "" : "[path $parent]/"}]
    set known {}
    foreach object $::objects {
        if {[kind $object] eq $kind && [string match "$prefix$name" [path $object]]} { lappend known $object }
    }
    return $known
}
proc remove {kind name core} {
    demand $core
    demand "$kind:$name"
    set kept {}
    foreach object $::objects {
        if {$object ne "$kind:$name" && ![string match "*:$name/*" $object]} { lappend kept $object }
    }
    set ::objects $kept
}

proc create_project {args} { lappend ::order create_project }
proc add_files {args} {
    set file [lindex $args end]
    if {![file exists $file]} { error "there is no file '$file'" }
    add "file:[file tail $file]"
}
proc current_fileset {} { return fileset:sources }
proc get_files {name} { demand "file:$name"; return "file:$name" }
proc update_compile_order {args} {}
proc close_project {} { lappend ::order close_project }
proc get_property {property object} {
    demand $object
    if {$property ne "NAME"} { error "unknown property '$property'" }
    return [lindex [split [path $object] /] end]
}
proc set_property {property value object} {
    demand $object
    if {[lsearch -exact $::properties([kind $object]) $property] < 0} {
        error "'$property' is no property of [kind $object]"
    }
    set ::values([list $object $property]) $value
}

namespace eval ipx {}
proc ipx::package_project {args} {
    lappend ::order package_project
    set folder [lindex $args [expr {[lsearch -exact $args -root_dir] + 1}]]
    if {$folder eq [file dirname $::script]} { error "the IP would be written over component.xml" }
    add core:
    # What Vivado guesses from the names of ports.
    foreach name {s_axis m_axis s_axil clk rst} { add "bus:$name" }
    add map:s_axil
}
proc ipx::current_core {} { demand core:; return core: }
proc ipx::get_bus_interfaces {args} { return [under bus $args] }
proc ipx::get_memory_maps {args} { return [under map $args] }
proc ipx::get_port_maps {args} { return [under pin $args] }
proc ipx::get_bus_parameters {args} { return [under parameter $args] }
proc ipx::get_address_blocks {args} { return [under block $args] }
proc ipx::get_registers {args} { return [under register $args] }
proc ipx::remove_bus_interface {name core} { remove bus $name $core }
proc ipx::remove_memory_map {name core} { remove map $name $core }
proc ipx::add_bus_interface {name core} { demand $core; add "bus:$name" }
proc ipx::add_memory_map {name core} { demand $core; add "map:$name" }
proc ipx::add_port_map {name bus} { demand $bus; add "pin:[path $bus]/$name" }
proc ipx::add_bus_parameter {name bus} { demand $bus; add "parameter:[path $bus]/$name" }
proc ipx::add_address_block {name map} { demand $map; add "block:[path $map]/$name" }
proc ipx::add_register {name block} { demand $block; add "register:[path $block]/$name" }
proc ipx::create_xgui_files {core} { demand $core }
proc ipx::update_checksums {core} { demand $core }
proc ipx::check_integrity {core} { demand $core }
proc ipx::save_core {core} {
    demand $core
    lappend ::order save_core
    set out [open $::env(PACKAGED) w]
    foreach key [array names ::values] { puts $out "[lindex $key 0]\t[lindex $key 1]\t$::values($key)" }
    close $out
}

set script [lindex $argv 0]
set argv {}
source $script
if {$order ne {create_project package_project save_core close_project}} { error "the order is $order" }
