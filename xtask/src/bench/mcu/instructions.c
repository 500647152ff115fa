/* A plugin of QEMU's code generator (API version 1, QEMU 4.2 and later): writes how many instructions the processor executes from each
 * time that it comes to `begin` until it comes to `end`, a line each, to `out`. All three are arguments.
 *
 * The declarations are those of qemu-plugin.h as far as they are used, so that nothing has to be installed to compile this. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t plugin_id;
typedef struct block block;
typedef struct instruction instruction;
enum { NO_REGISTERS = 0, ADD = 0 };

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, block *));
void qemu_plugin_register_vcpu_insn_exec_inline(instruction *, int operation, void *counter, uint64_t operand);
void qemu_plugin_register_vcpu_insn_exec_cb(instruction *, void (*)(unsigned, void *), int registers, void *);
size_t qemu_plugin_tb_n_insns(const block *);
instruction *qemu_plugin_tb_get_insn(const block *, size_t);
uint64_t qemu_plugin_insn_vaddr(const instruction *);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

static uint64_t executed, at_begin, begin, end;
static FILE *out;

static void begins(unsigned processor, void *unused) { at_begin = executed; }

static void ends(unsigned processor, void *unused) {
    fprintf(out, "%llu\n", (unsigned long long)(executed - at_begin));
    fflush(out);
}

static void translated(plugin_id id, block *code) {
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(code); i++) {
        instruction *one = qemu_plugin_tb_get_insn(code, i);
        uint64_t address = qemu_plugin_insn_vaddr(one);
        qemu_plugin_register_vcpu_insn_exec_inline(one, ADD, &executed, 1);
        if (address == begin) qemu_plugin_register_vcpu_insn_exec_cb(one, begins, NO_REGISTERS, NULL);
        if (address == end) qemu_plugin_register_vcpu_insn_exec_cb(one, ends, NO_REGISTERS, NULL);
    }
}

__attribute__((visibility("default"))) int qemu_plugin_install(plugin_id id, const void *info, int count, char **arguments) {
    for (int i = 0; i < count; i++) {
        if (strncmp(arguments[i], "begin=", 6) == 0) begin = strtoull(arguments[i] + 6, NULL, 0);
        if (strncmp(arguments[i], "end=", 4) == 0) end = strtoull(arguments[i] + 4, NULL, 0);
        if (strncmp(arguments[i], "out=", 4) == 0) out = fopen(arguments[i] + 4, "w");
    }
    if (!begin || !end || !out) return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
