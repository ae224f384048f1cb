# The commands of Vitis HLS and Vivado HLS that the scripts of a project call, as far as they can be checked without either:
# files that are named must be there, C simulation and co-simulation compile the test bench with the flags given and run it.
# A command that is not defined here ends the script.
#
#     tclsh vendor.tcl build_prj.tcl [options of the script]
namespace eval vendor {
    variable sources {}
    variable bench {}
    variable top ""
    variable calls {}
}

proc vendor::note {name} { lappend ::vendor::calls $name }

proc vendor::simulate {} {
    set names [lindex $::vendor::bench 0]
    set flags [lindex $::vendor::bench 1]
    exec g++ {*}$flags {*}$::env(BENCH_FLAGS) $names {*}$::vendor::sources -o bench
    puts [exec ./bench]
}

proc open_project {args} {
    vendor::note open_project
    set ::vendor::folder [lindex $args end]
    file mkdir $::vendor::folder
}

proc set_top {name} { set ::vendor::top $name }

proc add_files {args} {
    set tb 0
    set flags ""
    set files {}
    for {set i 0} {$i < [llength $args]} {incr i} {
        switch -- [lindex $args $i] {
            -tb { set tb 1 }
            -cflags { set flags [lindex $args [incr i]] }
            default { lappend files [lindex $args $i] }
        }
    }
    foreach name $files {
        if {![file exists $name]} { error "no file $name" }
        if {[file extension $name] eq ".cpp"} {
            if {$tb} { set ::vendor::bench [list $name $flags] } else { lappend ::vendor::sources $name }
        }
    }
}

proc open_solution {args} { file mkdir $::vendor::folder/[lindex $args end] }

foreach name {config_array_partition config_compile set_part config_schedule create_clock set_clock_uncertainty \
              synth_design opt_design report_utilization export_design} {
    proc $name {args} "vendor::note $name"
}

proc csim_design {args} {
    vendor::note csim_design
    vendor::simulate
}

proc csynth_design {args} {
    vendor::note csynth_design
    file mkdir $::vendor::folder/solution1/syn/verilog
}

proc cosim_design {args} {
    vendor::note cosim_design
    set sim $::vendor::folder/solution1/sim
    file mkdir $sim/verilog $sim/report
    foreach {name text} [list verilog/$::vendor::top.tcl "log_wave -r /\nquit" report/${::vendor::top}_cosim.rpt "none" \
                         verilog/run_sim.tcl "cd [pwd]; vendor::simulate"] {
        set file [open $sim/$name w]
        puts $file $text
        close $file
    }
}

rename exit vendor::exit
proc exit {{status 0}} {
    puts "calls: $::vendor::calls"
    vendor::exit $status
}

set script [lindex $argv 0]
set argv [lrange $argv 1 end]
source $script
exit 0
