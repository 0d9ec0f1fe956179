; The tests' guest: one boot sector that shows what a snapshot must bring back, its memory and its disks.
;
;   nasm -f bin tick.asm -o tick.bin      (tick.base64 beside this file is tick.bin in base64)
;
; It talks on the first serial port. Every line is a letter, eight hex digits, CR LF:
;   BOOT      the one line without digits, at boot; an r line follows it
;   C         about every 0.22 s: the counter, a dword of RAM that only counts up
; and every byte that it receives is a command, answered by a line with the same letter:
;   w   write the counter to sector 1 of the first disk        W   the same on the second disk
;   r   read sector 1 of the first disk                        R   the same on the second disk
;   z   set the counter to zero
;   p   panic (pvpanic device)     b   reboot     q   power off (ACPI S5)      (no answer to these three)
; A failing disk answers with the letter and "!". The ACPI power button says OFF and powers off.
; Between two timer ticks the CPU sleeps, so that a running guest costs its host next to nothing.

bits 16
org 0x7c00

COM  equ 0x3f8              ; first serial port
CNT  equ 0x8000             ; dword: the counter
TICK equ 0x8004             ; byte: timer ticks until the next C line
PM   equ 0x8006             ; word: ACPI PM1 status port; enable is at +2, control at +4
S5   equ 0x8008             ; word: what the control port wants for power off
BUF  equ 0x9000             ; one sector

start:
    cli
    xor ax,ax
    mov ds,ax
    mov es,ax
    mov ss,ax
    mov sp,0x7c00
    jmp 0:.go
.go:
    cld
    sti
    mov dword [CNT],0
    mov byte [TICK],4
    ; ACPI ports: 0x600 on QEMU's pc and q35; where nothing answers (all ones) it is VirtualBox's 0x4000
    mov dx,0x600
    mov bx,0x2000           ; sleep enable, type 0
    in ax,dx
    inc ax
    jnz .pm
    mov dx,0x4000
    mov bx,0x3400           ; sleep enable, type 5
.pm:
    mov [PM],dx
    mov [S5],bx
    inc dx
    inc dx
    mov ax,0x0100           ; report the power button
    out dx,ax
    mov si,s_boot
    call puts
    mov cl,'r'
    call cmd

main:
    hlt                     ; until the timer, 18.2 times a second
    mov dx,[PM]
    in ax,dx
    cmp ax,0xffff           ; no ACPI at all
    je .ser
    test ah,1               ; power button pressed
    jnz off
.ser:
    mov dx,COM+5
    in al,dx
    test al,1               ; a byte has come
    jz .tick
    mov dx,COM
    in al,dx
    mov cl,al
    call cmd
    jmp .ser
.tick:
    dec byte [TICK]
    jnz main
    mov byte [TICK],4
    inc dword [CNT]
    mov eax,[CNT]
    mov cl,'C'
    call show
    jmp main

; Execute the command in cl.
cmd:
    cmp cl,'q'
    je off
    cmp cl,'p'
    je panic
    cmp cl,'b'
    je reboot
    cmp cl,'z'
    je zero
    mov dl,0x80             ; BIOS number of the first disk
    mov ch,cl
    test cl,0x20            ; lower case?
    jnz .d
    inc dx                  ; no: the second disk
.d: or ch,0x20
    mov ah,2                ; int 13h: read
    cmp ch,'r'
    je .io
    cmp ch,'w'
    jne ret_                ; unknown commands are ignored
    mov eax,[CNT]
    mov [BUF],eax
    mov ah,3                ; int 13h: write
.io:
    push cx
    mov al,1                ; one sector
    mov bx,BUF
    mov cx,0x0002           ; cylinder 0, sector 2: the one after the boot sector
    mov dh,0
    int 0x13
    pop cx
    jc .err
    mov eax,[BUF]
    jmp show
.err:
    mov al,cl
    call putc
    mov si,s_err
    jmp puts
zero:
    xor eax,eax
    mov [CNT],eax
    ; and show it

; Print the letter in cl, eax in hex, end of line.
show:
    xchg eax,ebp
    mov al,cl
    call putc
    mov cx,8
.n: rol ebp,4
    mov ax,bp
    and al,15
    add al,'0'
    cmp al,'9'
    jbe .p
    add al,'a'-'0'-10
.p: call putc
    loop .n
    mov si,s_nl
; Print the zero-terminated string at si.
puts:
    lodsb
    test al,al
    jz ret_
    call putc
    jmp puts
; Print al, once the port has room.
putc:
    push ax
    mov dx,COM+5
.w: in al,dx
    test al,0x20
    jz .w
    pop ax
    mov dx,COM
    out dx,al
ret_:
    ret

panic:
    mov dx,0x505
    mov al,1
    out dx,al
    ret
reboot:
    mov al,0xfe             ; the keyboard controller's reset line
    out 0x64,al
    hlt
    jmp reboot
off:
    mov si,s_off
    call puts
    mov dx,[PM]
    add dx,4
    mov ax,[S5]
    out dx,ax
.h: hlt
    jmp .h

s_boot: db 'BOOT'
s_nl:   db 13,10,0
s_err:  db '!',13,10,0
s_off:  db 'OFF',13,10,0

times 510-($-$$) db 0
dw 0xaa55                   ; what makes it a boot sector
